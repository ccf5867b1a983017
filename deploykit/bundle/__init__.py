"""Models as parts of an app: ``deploykit bundle``.

``engine`` finds the engine's sources, ``header`` writes the typed C header, ``compiler`` finds and calls compilers, ``folder``
puts a bundle together, ``sizes`` tells what each op costs; ``templates/`` holds the files of build systems and languages.
"""
