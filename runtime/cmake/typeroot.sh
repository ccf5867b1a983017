#!/usr/bin/env bash
# Developers only; the result is ignored by git.  Makes .typeroot/deploykit/, a folder of links in which the packages sit
# under their installed names (converters/ as deploykit.converters), so that type checkers, and runs from the checkout
# without an install (PYTHONPATH=.typeroot), see what users see.
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -rf .typeroot && mkdir -p .typeroot/deploykit
for f in deploykit/*; do ln -s "../../$f" .typeroot/deploykit/; done
ln -s ../../converters .typeroot/deploykit/converters
