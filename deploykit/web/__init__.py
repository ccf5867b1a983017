"""Static web pages around a model: ``deploykit web``.

``site`` writes the folder, ``forms`` chooses what the page asks and shows, ``vectors`` makes the answers that the page
compares itself with, ``headers`` knows what hosts must send, ``serve`` sends it locally.
"""
