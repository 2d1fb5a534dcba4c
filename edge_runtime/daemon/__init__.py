"""The program that runs day and night: the loop, and what it needs around it.

``service`` is the loop. ``parts`` builds what a reload exchanges, ``signals`` and ``notify`` are
the two ends of the service manager, ``thermal`` slows down on a hot CPU, ``threads`` notices a
thread that died, ``summary`` is the last line of the log. Frames are labelled in
`edge_runtime.pipeline`, not here.
"""
