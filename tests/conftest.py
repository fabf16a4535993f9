import os


# Before torch and transformers are imported: the tests need no hub, and one thread a worker.
os.environ.update(
    HF_HUB_OFFLINE="1", TRL_EXPERIMENTAL_SILENCE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1"
)
