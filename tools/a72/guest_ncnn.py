"""Traced program: one inference of an ncnn network with empty weights.

guest_ncnn.py PARAM SIZE
"""

import sys

import ncnn
from guest import mark

net = ncnn.Net()
net.opt.num_threads = 1
net.load_param(sys.argv[1])
net.load_model(ncnn.DataReaderFromEmpty())
size = int(sys.argv[2])
picture = ncnn.Mat(size, size, 3)
picture.fill(0.01)
output = net.output_names()[-1]


def infer() -> None:
    extractor = net.create_extractor()
    extractor.input("data", picture)
    extractor.extract(output)


# The first inference packs the weights; the second warms the cache model.
infer()
mark(0)
infer()
mark(1)
infer()
mark(2)
