"""The HTTP protocol of the server, which refuses what there is no room for before a request is made of it.

A refusal that goes through server, framework and guards costs a fifth of a decision: at four times what can be decided
nearly all the time would go into refusing.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.refusals import Refusals


class SheddingProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which asks first whether a request is to be refused.

    A subclass says what by: ``refusals``.
    """

    _is_within = False

    def refusals(self) -> Refusals | None:
        """What is refused now; None where nothing is known of it yet, or any more."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """Answer a request that is refused; give anything else to the parser."""
        refusals = self.refusals()
        answer = None
        if refusals is not None and self._is_between():
            answer = refusals.answer_to(data, beside=self.server_state.default_headers)
            if answer is None and refusals.let_through(data):
                self.loop.call_soon(refusals.begun)  # in one round with their first steps, before more is received
        if answer is None:
            super().data_received(data)
            return
        self.transport.write(answer)
        self.on_response_complete()  # counts it, and begins the wait for the next

    def _is_between(self) -> bool:
        """Whether no request of the connection is being read or answered, and the last answer has left."""
        is_answered = self.cycle is None or self.cycle.response_complete
        return is_answered and not self._is_within and not self.flow.write_paused and not self.transport.is_closing()

    def on_message_begin(self) -> None:
        """The parser has found the beginning of a request."""
        self._is_within = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The parser has found its end."""
        self._is_within = False
        super().on_message_complete()
