"""A method of the contract, as a value: what the transports call. `rpcs` has all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from stepup.client.errors import AnswerError

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Request, Response]):
    """A method of a service.

    Attributes:
        path: such as `/stepup.v1.StepUpService/CheckStepUp`.
        request: the class of its requests.
        response: the class of its responses.
        is_stream: whether the server sends many responses.
    """

    path: str
    request: type[Request]
    response: type[Response]
    is_stream: bool = False

    def decoded(self, response: bytes) -> Response:
        """Parse a response.

        Raises:
            AnswerError: the bytes are not a response.
        """
        try:
            return self.response.FromString(response)
        except DecodeError as error:
            raise AnswerError(f"{self.path}: the response cannot be parsed") from error
