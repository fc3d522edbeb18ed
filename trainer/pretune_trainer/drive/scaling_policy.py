"""How many ranks there are: as many as were ordered. Imports Ray Train: for its driver alone."""

from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy


class AllThereAre(FixedScalingPolicy):  # type: ignore[misc]  # Ray is not annotated
    """Asks no autoscaler for nodes: there is none, and the process that would ask holds up each start by 2 s."""

    def after_controller_start(self, train_run_context: object) -> None:
        """Start no such process."""

    def _maybe_send_resource_request(self) -> None:
        pass
