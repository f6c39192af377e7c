"""A process that holds the model and answers the server; it listens to nothing else."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scanwise.errors import ScanwiseError
from scanwise.serving.messages import Header, JointHandler, Message, answer_questions

if TYPE_CHECKING:
    from scanwise.serving.answering import ModelAnswers


@dataclass(slots=True)
class ModelProcess:
    """The model, once the server has said which.

    Attributes:
        at_once: questions that are answered beside each other.
        model: that was opened.
    """

    at_once: int
    model: "ModelAnswers | None" = None

    def answer(self, header: Header, contents: list[bytes]) -> Message:
        """Open the model, or let it answer."""
        if self.model is not None:
            return self.model.answer(header, contents)
        from scanwise.serving.answering import ModelAnswers

        try:
            self.model = ModelAnswers(Path(header["path"]), header["decoding_memory"], self.at_once)
        except ScanwiseError as error:
            return {"refusal": str(error), "error": type(error).__name__}, []
        return self.model.answer({"kind": "about"}, [])

    def may_join(self, question: Message) -> bool:
        """Whether a question may be answered with others."""
        return self.model is not None and self.model.may_join(question)

    def answer_together(self, questions: list[Message]) -> list[Message]:
        """Let the model answer questions that may join."""
        assert self.model is not None  # noqa: S101 - or none may join
        return self.model.answer_together(questions)


if __name__ == "__main__":
    served = ModelProcess(int(sys.argv[1]))
    answer_questions(served.answer, served.at_once, JointHandler(served.may_join, served.answer_together))
