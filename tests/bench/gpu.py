"""`make bench` on one GPU, without Ray: a Llama of about 1 billion parameters, against a bare PyTorch loop, in turns.

    python tests/bench/gpu.py

Both compute in bf16 with compiled blocks and fused AdamW, on the same rows of the standard library's source. Ours keeps
documents apart (variable-length attention); the loop, which has torch's own fused attention, does not. Utilization is
6 FLOPs a parameter and token (PaLM, appendix B) and attention's by document, of the device's dense bf16 peak.

Needed beside PyTorch >= 2.11 and transformers >= 5.17 with CUDA: jinja2, pillow, pyarrow, and as wheels where the
machine has no package registry and lacks them: obstore, pydantic, pydantic-core, annotated-types, typing-inspection,
soundfile, cffi, soxr. Pretune itself is found beside this file; Ray and peft are not needed.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pretune_api.run_config import RunConfig
    from pretune_trainer.tasks.base import Batch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / room) for room in ("crds", "trainer")]

NEEDED = (
    *("torch", "transformers", "jinja2", "PIL", "pyarrow", "obstore"),
    *("pydantic", "annotated_types", "typing_inspection", "soundfile", "cffi", "soxr"),
)
MODEL = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 14,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
"""Fields of a LlamaConfig: 1.07 billion parameters with VOCABULARY."""
VOCABULARY = 32_768
LENGTH = 2048
ROWS = 16
"""Rows of a step, computed at once: 32,768 tokens."""
STEPS = 400
"""Length of the schedule; more than anyone runs."""
PAIRS = 8
LARGEST_ERROR = 0.1
"""Of logits in bf16, packed against alone."""


def missing() -> str | None:
    """What stands in the way of a measurement, in one sentence."""
    packages = [name for name in NEEDED if find_spec(name) is None]
    if packages:
        return f"The GPU benchmark needs {', '.join(packages)}, which this Python does not have."
    import torch

    if not torch.cuda.is_available():
        return "The GPU benchmark needs a GPU that PyTorch sees, such as one H100 or H200, and there is none."
    return None


def config() -> "RunConfig":
    """The run config of our side."""
    import ours
    import setting

    from pretune_api.data import Data, Source
    from pretune_api.model import Architecture, TokenizerTraining
    from pretune_api.objectives import CausalLM, Objective
    from pretune_api.run_config import RunModel, RunTokenizer
    from pretune_api.training import Checkpointing, Training

    base = ours.pretrain()
    return base.model_copy(
        update={
            "objective": Objective(causal_lm=CausalLM()),
            "model": RunModel(architecture=Architecture(type="llama", config=MODEL)),
            "tokenizer": RunTokenizer(train=TokenizerTraining(algorithm="bpe", vocab_size=VOCABULARY)),
            "data": Data(train=[Source(uri=setting.SOURCE.as_uri())], sequence_length=LENGTH),
            "training": Training(
                examples_per_step=ROWS, micro_batch_rows=ROWS, max_steps=STEPS, precision="bf16", compile=True
            ),
            "checkpoint": Checkpointing(every_steps=50, keep=1),
            "device": "cuda",
        }
    )


def first_steps(count: int) -> "list[Batch]":
    """What rank 0 takes in the first steps."""
    from pretune_trainer.data.example import Cursor
    from pretune_trainer.inputs import gather_inputs
    from pretune_trainer.parallel import Ranks
    from pretune_trainer.report import Silent
    from pretune_trainer.training_plan import plan_training

    inputs = gather_inputs(config(), Ranks(), Silent())
    steps = plan_training(inputs, Ranks()).stream.steps(Cursor())
    return [inputs.task.batch(step.packs) for step in islice(steps, count)]


def run_ours() -> None:
    """Our side: takes a turn after each burst, and notes what checkpoints cost."""
    import ours
    import torch
    from turns import BURST, Turns

    from pretune_trainer.parallel import Ranks
    from pretune_trainer.rank import run_rank
    from pretune_trainer.report import Committed, Event, Step

    turns = Turns(peak=torch.cuda.max_memory_allocated)

    class Reporter:
        def tell(self, event: Event) -> None:
            if isinstance(event, Committed):
                stall_file().write_text(json.dumps(asdict(event)))
            if isinstance(event, Step):
                if event.step % BURST == 0:
                    torch.cuda.synchronize()
                turns.step(event.tokens)

        def stop_requested(self) -> bool:
            return False

    ours.forget_runs()
    stall_file().unlink(missing_ok=True)
    run_rank(config(), Ranks(device=torch.device("cuda")), Reporter())


def run_loop() -> None:
    """The peer: nothing but PyTorch and transformers, with all rows in memory."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from turns import BURST, Turns

    rows = [batch.inputs["input_ids"].pin_memory() for batch in first_steps(50)]
    tokens = [batch.tokens for batch in first_steps(50)]
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig(**MODEL, vocab_size=VOCABULARY)).float().train()
    for block in model.model.layers:
        block.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    turns = Turns(peak=torch.cuda.max_memory_allocated)
    for step in range(1, STEPS):
        ids = rows[step % 50].to("cuda", non_blocking=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % BURST == 0:
            torch.cuda.synchronize()
        turns.step(tokens[step % 50])


def stall_file() -> Path:
    """Where our side notes the last checkpoint."""
    return ROOT / ".bench/gpu-checkpoint.json"


def packed_error() -> float:
    """Largest difference of logits between packed documents (by boundaries) and each alone (torch's attention)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from pretune_trainer.model.attention import attention_for, boundaries

    torch.manual_seed(0)
    small = LlamaConfig(**{**MODEL, "num_hidden_layers": 2}, vocab_size=VOCABULARY)
    with torch.device("cuda"):
        model = LlamaForCausalLM(small).eval()
    lengths = [700, 1, 35, 900, 412]
    ids = torch.randint(0, VOCABULARY, (1, sum(lengths)), device="cuda")
    places = torch.cat([torch.arange(length) for length in lengths])[None]
    told = {key: value.cuda() if hasattr(value, "cuda") else value for key, value in boundaries(places.numpy()).items()}
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        alone = torch.cat([model(input_ids=part).logits for part in torch.split(ids, lengths, dim=1)], dim=1)
        model.set_attn_implementation(attention_for(torch.device("cuda"), "bf16", packs=True))
        packed = model(input_ids=ids, position_ids=places.cuda(), use_cache=False, **told).logits
    return float((packed.float() - alone.float()).abs().max())


def token_flops() -> float:
    """FLOPs a token; causal attention takes half of 12 · layers · width · n², a document of n tokens."""
    from pretune_trainer.model.flops import flops_per_token

    width, layers = MODEL["hidden_size"], MODEL["num_hidden_layers"]
    parameters = layers * (4 * width**2 + 3 * width * MODEL["intermediate_size"]) + VOCABULARY * width
    steps = first_steps(20)
    starts = [(batch.inputs["position_ids"] == 0).flatten().nonzero().flatten() for batch in steps]
    lengths: list[int] = [length for start in starts for length in start.diff().tolist()]
    attention = 6.0 * layers * width * sum(length * length for length in lengths)
    return flops_per_token(parameters, parameters) + attention / sum(lengths)


def measure() -> None:
    """Measure, print, and write .bench/gpu.json."""
    import setting
    import torch
    from run import Result
    from turns import BURST, duel

    from pretune_trainer.model.flops import peak_flops

    if not setting.SOURCE.exists():
        subprocess.run([sys.executable, str(ROOT / "examples/demo/prepare.py")], check=True)
    setting.HOME.mkdir(exist_ok=True)
    error = packed_error()
    torch.cuda.empty_cache()
    per_token, peak = token_flops(), peak_flops(torch.cuda.get_device_name())
    turns = duel(["gpu.py", "ours"], ["gpu.py", "loop"], pairs=PAIRS)
    saved = json.loads(stall_file().read_text())["blocked_seconds"]
    step = median(burst.seconds for burst in turns.ours) / BURST
    ours, peer, ratio = turns.of(lambda burst: burst.speed)
    results = [
        Result("gpu_packed_error", error, LARGEST_ERROR, error / LARGEST_ERROR, "logits"),
        Result("gpu_pretrain_vs_bare_loop", ours, peer, ratio, "tokens/s"),
        Result("gpu_mfu", ours * per_token / peak, peer * per_token / peak, ratio, "of the bf16 peak"),
        Result("gpu_step_seconds", *turns.of(lambda burst: burst.seconds / BURST), "s"),
        Result("gpu_peak_memory_vs_bare_loop", *turns.of(lambda burst: burst.peak_bytes / 2**20), "MiB"),
        Result("gpu_checkpoint_stall", saved, 500 * step, saved / (500 * step), "s in 500 steps"),
    ]
    for result in results:
        print(json.dumps(asdict(result)))
    (setting.HOME / "gpu.json").write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    if error > LARGEST_ERROR:
        sys.exit(f"packed documents are not computed as if each were alone: their logits differ by {error:g}")


def main(side: str | None = None) -> None:
    if (reason := missing()) is not None:
        print(reason)
        return
    os.chdir(Path(__file__).parent)
    {"ours": run_ours, "loop": run_loop, None: measure}[side]()


if __name__ == "__main__":
    main(*sys.argv[1:])
