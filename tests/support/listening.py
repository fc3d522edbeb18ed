"""Who is told what a run says, in tests."""

from pretune_trainer.report import Committed, Event, Said


class Listener:
    """A reporter that remembers; called with a sentence, it remembers that too."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, sentence: str) -> None:
        self.tell(Said(sentence))

    def tell(self, event: Event) -> None:
        self.events.append(event)

    def stop_requested(self) -> bool:
        return False

    @property
    def sentences(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Said)]

    @property
    def committed(self) -> list[int]:
        return [event.step for event in self.events if isinstance(event, Committed)]
