"""Files with jobs, for tests of the command."""

from pathlib import Path

SPEC = """
  data: {train: [{uri: ./corpus/*.jsonl}]}
  training: {tokensPerStep: 1024, maxSteps: 10, learningRate: 3e-4}
  storage: {uri: ../out/}
"""

SCRATCH = "  model: {architecture: {type: llama}}\n  tokenizer: {train: {}}"


def pretrain(name: str, model: str = SCRATCH) -> str:
    """A PretrainJob as a person writes it."""
    return (
        f"apiVersion: pretune.dev/v1alpha1\nkind: PretrainJob\nmetadata: {{name: {name}}}\nspec:\n"
        f"  objective: {{causalLM: {{}}}}\n{model}{SPEC}"
    )


def finetune(name: str, parent: str) -> str:
    """A FinetuneJob that starts from the PretrainJob `parent`."""
    return (
        f"apiVersion: pretune.dev/v1alpha1\nkind: FinetuneJob\nmetadata: {{name: {name}}}\nspec:\n"
        f"  task: {{chat: {{}}}}\n  model: {{from: {{pretrainJob: {parent}}}}}{SPEC}"
    )


def continued(name: str, parent: str) -> str:
    """A PretrainJob that starts from the PretrainJob `parent`."""
    return pretrain(name, f"  model: {{from: {{pretrainJob: {parent}}}}}")


def write(path: Path, *documents: str) -> Path:
    """A file with these documents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(documents))
    return path
