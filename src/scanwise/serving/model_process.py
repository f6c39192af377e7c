"""A process that holds the model and answers the server; it listens to nothing else."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scanwise.errors import ScanwiseError
from scanwise.serving.messages import Header, Message, answer_questions

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


if __name__ == "__main__":
    answer_questions(ModelProcess(int(sys.argv[1])).answer, int(sys.argv[1]))
