"""Model FLOPs utilization is arithmetic that anyone can check."""

import math

import pytest

from pretune_trainer.model.flops import Utilization, flops_per_token, peak_flops


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
    ],
)
def test_common_devices_peaks_are_known_by_their_names(name: str, tera: float) -> None:
    assert peak_flops(name) == pytest.approx(tera * 1e12)


@pytest.mark.parametrize("name", ["Tesla V100-SXM2-16GB", "NVIDIA A1000", "NVIDIA A100-SXM4-80GB MIG 3g.40gb", ""])
def test_a_device_without_bf16_in_part_or_unheard_of_has_no_peak(name: str) -> None:
    assert math.isnan(peak_flops(name))


def test_a_token_costs_six_flops_a_parameter_and_four_where_it_is_frozen() -> None:
    assert flops_per_token(computed=100, trained=100) == 600
    assert flops_per_token(computed=100, trained=0) == 400


def test_utilization_is_the_share_of_the_peak() -> None:
    assert Utilization(flops_per_token=6e9, peak=1e15).of(tokens=100_000, seconds=1.0) == pytest.approx(0.6)
    assert math.isnan(Utilization(flops_per_token=6e9, peak=math.nan).of(tokens=1, seconds=1.0))
