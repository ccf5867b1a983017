"""Ten programs in stock Keras on Deploykit: real data in, a .dk file and a web page out.  See README.md."""
