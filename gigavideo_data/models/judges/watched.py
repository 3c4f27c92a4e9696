"""A wrapper of multimodal judges that stops the run when a model does not answer with yes or no.

A reasoning model begins every answer with a mark such as <think>, and every row would be unscorable. So after the first
clip without a usable answer the model is asked a control question, which every model that answers with one word answers
with yes or no. If it does not, the run stops before that row is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gigavideo_data.errors import RunError
from gigavideo_data.models.judges.base import Answer, Judge

CONTROL = "Is there a white square in this video?"


class WatchedJudge:
    """A judge with a control question."""

    def __init__(self, judge: Judge, model: str, min_mass: float, readout: str) -> None:
        """Wrap a judge.

        Args:
            judge: a multimodal model.
            model: its name, for the message.
            min_mass: least P(yes) + P(no) of a usable answer.
            readout: "logits" or "text"; the message proposes the other one.
        """
        self.judge, self.model, self.min_mass, self.readout = judge, model, min_mass, readout
        self.is_checked = False

    def answer(self, frames_THWC: np.ndarray, fps: float, questions: list[str]) -> Sequence[Answer]:
        """Answer as the judge does.

        Raises:
            RunError: it answers neither these questions nor the control question with yes or no.
        """
        answers = self.judge.answer(frames_THWC, fps, questions)
        if questions and not self.is_checked:
            if not any(map(self._is_usable, answers)):
                self._check_control(frames_THWC, fps)
            self.is_checked = True
        return answers

    def _is_usable(self, answer: Answer) -> bool:
        return not answer.p_yes + answer.p_no < self.min_mass  # NaN is refused by `base.checked`

    def _check_control(self, frames_THWC: np.ndarray, fps: float) -> None:
        _, height, width, _ = frames_THWC.shape
        control_THWC = np.zeros_like(frames_THWC)
        control_THWC[:, height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = 255
        (answer,) = self.judge.answer(control_THWC, fps, [CONTROL])
        if self._is_usable(answer):
            return
        begins = f"begins with {answer.text!r} and " if answer.text else ""
        text = " or set judge.readout=text, which is recorded in every row;" if self.readout == "logits" else ""
        raise RunError(
            f"the judge {self.model} does not answer with yes or no: its answer to the control question {CONTROL!r} "
            f"{begins}has P(yes) + P(no) = {answer.p_yes + answer.p_no:.3f}, and judge.min_mass is {self.min_mass:g}. "
            "If it reasons before it answers, turn that off in its chat template (a vLLM server takes "
            f"--default-chat-template-kwargs '{{\"enable_thinking\": false}}');{text} else name another model. "
            "Then run the same command again."
        )
