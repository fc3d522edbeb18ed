import os
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[1] / "bench/gpu.py"


def test_without_a_gpu_the_benchmark_says_in_one_sentence_what_it_needs() -> None:
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run([sys.executable, BENCHMARK], env=hidden, capture_output=True, text=True, check=True)
    assert (
        ended.stdout
        == "The GPU benchmark needs a GPU that PyTorch sees, such as one H100 or H200, and there is none.\n"
    )
