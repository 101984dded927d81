"""Runs llama.cpp's own HTTP server until the standard input ends.

The arguments are the model's file, the size of the context, and the key that requests must have.
"""

import sys

import xllamacpp

path, context, key = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = path
params.n_ctx = int(context)
params.api_keys = [key]
params.use_jinja = True
params.warmup = False
params.sampling.temp = 0
# Several threads would wait for each other in loops, which is slow beside other work.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print("llama.cpp listens on", server.listening_address, flush=True)
sys.stdin.read()
