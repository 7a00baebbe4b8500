"""Run-time prediction: what is believed of a job at submission, learnt from those that ended.

Pure: time comes as an argument, chance only from fixed seeds. Floats stay inside; what leaves is
in whole milliseconds.
"""
