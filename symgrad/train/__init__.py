"""Training a model file from the command line.

model    a Python file with `loss`, optimizer, outputs, data -> `Model`
fit      epochs, validation, files, the tables on the terminal
score    means over a whole data set
"""
