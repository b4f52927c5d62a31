"""What the service's own interface takes and gives, as models: OpenAPI is made of them.

The results are models of the sandbox's own dataclasses, so a field that is added there is here.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator

from rlvr.sandbox.limits import Limits, RunResult
from rlvr.sandbox.service.wire import pack, unpack


class Base64(BaseModel):
    """Bytes that are not UTF-8."""

    model_config = ConfigDict(extra="forbid")
    base64: str


def _is_blob(blob: str | Base64) -> str | Base64:
    unpack(blob if isinstance(blob, str) else blob.model_dump())
    return blob


Blob = Annotated[str | Base64, AfterValidator(_is_blob)]
"""Bytes: a string where they are UTF-8, else `{"base64": ...}`."""


def read_blob(blob: str | Base64) -> bytes:
    """The bytes of a blob."""
    return unpack(blob if isinstance(blob, str) else blob.model_dump())


class Request(BaseModel):
    """What all requests share; an unknown field is refused, so that a slip is not ignored."""

    model_config = ConfigDict(extra="forbid")


def _limits_model() -> type[BaseModel]:
    kinds = typing.get_type_hints(Limits)
    fields: dict[str, Any] = {
        field.name: (kinds[field.name], Field(field.default, gt=0))
        for field in dataclasses.fields(Limits)
    }
    return create_model("Limits", __base__=Request, __doc__=Limits.__doc__, **fields)


LimitsModel: Any = _limits_model()


def _result_model(kind: type, name: str) -> type[BaseModel]:
    types = typing.get_type_hints(kind)
    fields: dict[str, Any] = {
        field.name: (Blob if types[field.name] is bytes else types[field.name], ...)
        for field in dataclasses.fields(kind)
    }
    return create_model(name, __doc__=kind.__doc__, **fields)


RunResultModel: Any = _result_model(RunResult, "RunResult")


def plain(result: Any) -> dict[str, Any]:
    """A dataclass of the sandbox as its model has it, ready for JSON."""
    return {field.name: _plain(getattr(result, field.name)) for field in dataclasses.fields(result)}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return pack(value)
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


class ProgramModel(Request):
    """A program that can run again and again: what `/v1/build` gives, and `/v1/run` takes."""

    language: str
    command: list[str] = Field(description="how it is run; empty for Python")
    files: dict[str, Blob] = Field(description="what lies beside it, by name")
    arguments: list[str] = Field([], description="what it is given on its command line")


class BuildRequest(Request):
    """Compile a program."""

    source: Blob = Field(description="the program", examples=["int main() { return 0; }"])
    language: str = Field(description="what it is written in", examples=["cpp"])
    files: dict[str, Blob] = Field({}, description="what lies beside the source, such as headers")
    limits: LimitsModel | None = Field(None, description="the language's own by default")
    deadline_seconds: float | None = Field(
        None, gt=0, description="for the whole request, the wait for a slot included"
    )


class BuildResponse(BaseModel):
    """The program; or, where it does not compile, how building ended."""

    program: ProgramModel | None = None
    failure: RunResultModel | None = None


class RunRequest(Request):
    """Run a program on one or more inputs, each in a process of its own."""

    source: Blob | None = Field(
        None, description="Python source", examples=["print(int(input()) + 1)"]
    )
    program: ProgramModel | None = Field(None, description="what was built, in place of `source`")
    inputs: list[Blob] = Field(
        [""], min_length=1, max_length=1024, description="standard input, one for each run"
    )
    limits: LimitsModel = Field(default_factory=LimitsModel, description="hold for each run")
    deadline_seconds: float | None = Field(None, gt=0, description="as for `build`")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.source is None) == (self.program is None):
            raise ValueError("expected either `source` or `program`")
        return self


class RunResponse(BaseModel):
    """The results, in order.

    There may be fewer than inputs, but never none: the service answers early after a program that
    ran into a limit, or once the request has had a slot for some seconds or its output grows large.
    Ask again with the inputs that are left.
    """

    results: list[RunResultModel]


class CallModel(Request):
    """One call. Arguments are values in the restricted encoding (see the documentation)."""

    name: str = Field(description="of a function that the program defines")
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    max_bytes: int = Field(1 << 20, gt=0, description="a longer reply is refused")


class CallsRequest(Request):
    """Load a program once and call what it defines, in order."""

    source: Blob = Field(description="Python", examples=["def f(x): return x + 1"])
    calls: list[CallModel] = Field(max_length=10_000, examples=[[{"name": "f", "args": [1]}]])
    limits: LimitsModel = Field(default_factory=LimitsModel, description="hold for all of it")
    deadline_seconds: float | None = Field(None, gt=0, description="as for `build`")


class Failure(BaseModel):
    """Why there is no value; the program's doing.

    `kind` is `syntax`, `raise`, `exit`, `gone` or `refused`.
    """

    kind: str
    message: str
    status: str | None = Field(None, description="how the process ended, where it did")
    error: str = Field("", description="the name of the exception's type, where there was one")


class Reply(BaseModel):
    """What came of one call: `value` (in the restricted encoding), or `failure`."""

    value: Any = None
    failure: Failure | None = None


class CallsResponse(BaseModel):
    """The replies, in order; fewer than calls where the program ended or could not be read.

    `failure` is there where the program did not load: then there are no replies.
    """

    names: list[str]
    replies: list[Reply]
    failure: Failure | None = None
    isolation: list[str]


class SuiteRequest(Request):
    """Run tests in Python against a program that is loaded in a sandbox of its own."""

    source: Blob = Field(description="the program", examples=["def f(x): return x + 1"])
    style: Literal["asserts", "pytest"]
    tests: Blob = Field(description="Python", examples=["assert f(1) == 2"])
    setup: Blob = Field("", description="of `asserts`: what comes before them")
    prefix: Blob = Field("", description="of `asserts`: the prompt that the program continues")
    entry_point: str | None = Field(None, description="of `asserts`: the function of the program")
    module: str | None = Field(None, description="of `pytest`: what the tests import it as")
    packages: list[Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,99}$")]] = Field(
        [], max_length=32, description="modules outside the standard library that the tests import"
    )
    weak: bool = Field(
        False, description="run the tests in the program's own interpreter, where it can forge"
    )
    limits: LimitsModel = Field(default_factory=LimitsModel, description="of the program")
    tester_seconds: float = Field(20.0, gt=0, description="by the clock, for the tests")
    deadline_seconds: float | None = Field(None, gt=0, description="as for `build`")

    def text(self, name: str) -> str:
        """A part that is source."""
        return read_blob(getattr(self, name)).decode("utf-8", "surrogatepass")


class SuiteResponse(BaseModel):
    """What the tests showed.

    `outcome` and `reason` are of the first test that failed; `passes` has the first 1,000 tests.
    Where the tests themselves are at fault there is nothing but `fault`.
    """

    passed: int = 0
    total: int = 0
    outcome: str | None = None
    reason: str = ""
    passes: list[bool] = []
    facts: dict[str, Any] = {}
    fault: str | None = None


class Problem(BaseModel):
    """Every answer that is not 2xx.

    `kind` says what to do: `full`, `deadline`, `stopping` and `sandbox` may pass, try again;
    `unauthorised`, `too_large`, `slow`, `media_type`, `unsupported` and `invalid` will not.
    """

    kind: str
    detail: str


class Health(BaseModel):
    """Whether the service takes work, and what holds programs."""

    status: str
    sandbox: str
    isolation: list[str]
    slots: int
    in_flight: int
    queued: int
    queue: int
