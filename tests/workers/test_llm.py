"""The contract with every server that speaks OpenAI's protocol, well or badly.

What takes `model` runs twice: as OpenAI and those compatible with it speak, and as Azure does (tests/azure.py names what is
known of it, and where from).
"""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import openai
import pytest

from shared.errors import AnswerRejected, LanguageModelUnavailable, StaleAttempt
from tests import azure
from workers.llm import TEXT_LIMIT, OpenAICompatible, ScriptedModel, translate
from workers.prompt import Message, Prompt
from workers.reply import Reply

PROMPT = Prompt(
    "findings", "0" * 64, (Message(role="system", content="Be kind."), Message(role="user", content="점?"))
)


def chunk(text=None, finish=None, **extra):
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    body = {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "served",
        "choices": [choice],
    }
    return b"data: " + json.dumps(body | extra).encode() + b"\n\n"


USAGE = chunk(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9})
DONE = b"data: [DONE]\n\n"
GOOD = [chunk("It is "), chunk("a mole."), chunk(finish="stop"), USAGE, DONE]


@pytest.fixture
def serve():
    """Starts a server that answers each POST with `reply(handler)`, and gives its address and what it got."""
    servers, over = [], threading.Event()

    def start(reply, of_azure=False):
        got = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append((self.path, self.headers, json.loads(body)))
                refused = azure.refusal(self.path, self.headers) if of_azure else None
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client may hang up
                    (status(refused[0], body=refused[1]) if refused else reply)(self)

            def log_message(self, *args):
                pass

        Handler.over, Handler.before = over, (azure.PROMPT_FILTERED, azure.FILTER_AT) if of_azure else ()
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}" + ("" if of_azure else "/v1"), got

    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=["openai", "azure"])
def speech(request):
    """The options of a client of such a server."""
    return {"azure_version": azure.VERSION} if request.param == "azure" else {}


@pytest.fixture
def model(serve, speech):
    """A client of a server that replies so."""
    clients = []

    def make(reply, **options):
        url, got = serve(reply, of_azure=bool(speech))
        asked = speech | {"total_timeout_s": 60} | options
        client = OpenAICompatible(url, azure.KEY, azure.DEPLOYMENT, **asked)
        client.got = got
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def stream(*pieces):
    """A reply of server-sent events, ended by closing the connection."""

    def reply(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for piece in (*handler.before, *pieces):
            handler.wfile.write(piece)
            handler.wfile.flush()

    return reply


def silence(handler):
    handler.over.wait()


def begin_and_stall(handler):
    stream(GOOD[0])(handler)
    handler.over.wait()


def endless(piece):
    """Twenty times a second, for as long as anybody listens."""

    def reply(handler):
        stream()(handler)
        while not handler.over.wait(0.05):
            handler.wfile.write(piece)
            handler.wfile.flush()

    return reply


def status(code, headers=(), body=b'{"error": {"message": "the key secret is wrong"}}'):
    def reply(handler):
        handler.send_response(code)
        for name, value in headers:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def promise_more_than_is_sent(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(GOOD[0])


def reset(handler):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def test_text_model_and_tokens_come_back_and_deltas_are_passed_on(model):
    client, deltas = model(stream(*GOOD)), []
    done = client.complete(PROMPT, on_delta=deltas.append)
    assert (done.text, done.model, done.input_tokens, done.output_tokens) == ("It is a mole.", "served", 7, 2)
    assert deltas == ["It is ", "a mole."]


def test_what_is_sent_is_the_prompt_and_the_extras(model, speech):
    client = model(stream(*GOOD), extra={"temperature": 0.8, "top_k": 10})
    client.complete(PROMPT)
    ((path, headers, body),) = client.got
    shape = body.pop("response_format")
    assert (shape["type"], shape["json_schema"]["strict"]) == ("json_schema", True)
    assert set(shape["json_schema"]["schema"]["required"]) == set(Reply.model_fields)
    assert path == (azure.PATH if speech else "/v1/chat/completions")
    assert headers["api-key" if speech else "Authorization"] == ("secret" if speech else "Bearer secret")
    assert body == {
        "model": "asked-for",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "점?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.8,
        "top_k": 10,
    }


@pytest.mark.parametrize(
    ("key", "deployment", "version", "status"),
    [("other", azure.DEPLOYMENT, azure.VERSION, "401"), (azure.KEY, "gpt-4o", azure.VERSION, "404"),
     (azure.KEY, azure.DEPLOYMENT, "2022-12-01", "404")],
)  # fmt: skip
def test_azure_refuses_another_key_deployment_or_version(serve, key, deployment, version, status):
    url, got = serve(stream(*GOOD), of_azure=True)
    client = OpenAICompatible(url, key, deployment, azure_version=version)
    with pytest.raises(AnswerRejected, match=status):
        client.complete(PROMPT)
    client.close()
    assert len(got) == 1


def test_a_filtered_question_is_told_apart_without_a_word_of_it(model):
    with pytest.raises(AnswerRejected) as caught:
        model(status(400, body=azure.PROMPT_REFUSED)).complete(PROMPT)
    assert caught.value.detail == "The language model's provider filtered the question out."
    assert not caught.value.retry


def test_a_server_that_falls_silent_is_left_before_the_time_is_over(model):
    client = model(silence, first_token_s=0.1, total_timeout_s=3600)
    with pytest.raises(LanguageModelUnavailable, match="in time"):
        client.complete(PROMPT)


def test_a_server_that_counts_no_tokens_is_served_by_zeros(model):
    done = model(stream(*GOOD[:3], DONE)).complete(PROMPT)
    assert (done.text, done.input_tokens, done.output_tokens) == ("It is a mole.", 0, 0)


def test_a_server_of_ones_own_needs_no_key(serve):
    url, _ = serve(stream(*GOOD))
    client = OpenAICompatible(url, "", "m")
    assert client.complete(PROMPT).text == "It is a mole."
    client.close()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(status(429), id="429"),
        pytest.param(status(500), id="500"),
        pytest.param(status(503, body=b"<html>"), id="503 html"),
        pytest.param(status(408), id="408"),
        pytest.param(status(200, body=b"<html>busy</html>"), id="html"),
        pytest.param(status(200, body=b""), id="nothing"),
        pytest.param(status(200, body=b"\xff\xfe\x00" * 50), id="bytes"),
        pytest.param(status(200, body=json.dumps({"choices": []}).encode()), id="json instead of a stream"),
        pytest.param(stream(b"data: {not json}\n\n", DONE), id="broken json"),
        pytest.param(stream(b"data: 42\n\n", DONE), id="number for a chunk"),
        pytest.param(stream(b'data: {"choices": 3}\n\n', DONE), id="number for choices"),
        pytest.param(stream(b'data: {"choices": [{"delta": "x"}]}\n\n', DONE), id="text for a delta"),
        pytest.param(stream(chunk(["a"]), *GOOD[2:]), id="list for a text"),
        pytest.param(stream(chunk("x", usage={"prompt_tokens": "many"}), *GOOD[2:]), id="words for tokens"),
        pytest.param(stream(b'data: {"error": {"message": "overloaded"}}\n\n'), id="error in the stream"),
        pytest.param(stream(*GOOD[:2]), id="cut stream"),
        pytest.param(stream(*GOOD[:2], DONE), id="done without an end"),
        pytest.param(promise_more_than_is_sent, id="cut body"),
        pytest.param(reset, id="reset"),
    ],
)
def test_trouble_that_may_pass_is_worth_another_try(model, reply):
    client = model(reply)
    with pytest.raises(LanguageModelUnavailable) as caught:
        client.complete(PROMPT)
    assert caught.value.retry
    assert "secret" not in caught.value.detail
    assert len(client.got) == 1  # the life of the job tries again, not the package


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_a_refusal_that_will_not_change_is_not_tried_again(model, code):
    client = model(status(code))
    with pytest.raises(AnswerRejected, match=str(code)) as caught:
        client.complete(PROMPT)
    assert caught.value.elsewhere is (code in (401, 403, 404))
    assert not caught.value.retry
    assert "secret" not in caught.value.detail
    assert len(client.got) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "12"}, 12),
        ({"Retry-After": "999999"}, 3600),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"Retry-After": "-1"}, None),
        ({"retry-after-ms": "1200", "Retry-After": "2"}, 2),
        ({"retry-after-ms": "61000"}, 61),
        ({"retry-after-ms": "1"}, 1),
        ({"retry-after-ms": "9" * 5_000}, 3600),
        ({"retry-after-ms": "soon", "Retry-After": "12"}, 12),
        ({}, None),
    ],
)
def test_retry_after_is_passed_on(model, headers, seconds):
    with pytest.raises(LanguageModelUnavailable) as caught:
        model(status(429, headers.items())).complete(PROMPT)
    assert caught.value.retry_after_s == seconds


def test_nobody_at_the_address_is_worth_another_try():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = OpenAICompatible(f"http://127.0.0.1:{free.getsockname()[1]}/v1", "", "m")
        with pytest.raises(LanguageModelUnavailable, match="could not be reached"):
            client.complete(PROMPT)
        client.close()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(silence, id="before the headers"),
        pytest.param(begin_and_stall, id="in the middle"),
        pytest.param(endless(b": still here\n\n"), id="comments only"),
        pytest.param(endless(chunk("word ")), id="words without end"),
    ],
)
def test_a_server_that_stalls_is_left_when_time_is_over(model, reply):
    with pytest.raises(LanguageModelUnavailable, match="in time"):
        model(reply, total_timeout_s=0.5).complete(PROMPT)


@pytest.mark.parametrize("reply", [begin_and_stall, endless(b": still here\n\n"), endless(chunk("word "))])
def test_a_call_that_is_no_longer_wanted_is_stopped(model, reply):
    looks = iter([False, False])  # then True: it is asked until it says so
    with pytest.raises(StaleAttempt):
        model(reply).complete(PROMPT, should_stop=lambda: next(looks, True))


def test_an_error_of_should_stop_ends_the_call_and_is_not_hidden(model):
    def broken():
        raise RuntimeError("no database")

    with pytest.raises(RuntimeError, match="no database"):
        model(endless(b": still here\n\n")).complete(PROMPT, should_stop=broken)


def test_an_error_of_the_listener_is_not_taken_for_the_servers(model):
    def broken(delta):
        raise ValueError("no row")

    with pytest.raises(ValueError, match="no row"):
        model(stream(*GOOD)).complete(PROMPT, on_delta=broken)


def test_a_character_cut_in_two_is_joined_and_half_of_one_never_comes_through(model):
    halves = [chunk("a \ud83d"), chunk("\ude00"), chunk(" b\0\ud83d"), *GOOD[2:]]
    deltas = []
    assert model(stream(*halves)).complete(PROMPT, on_delta=deltas.append).text == "a 😀 b�"
    "".join(deltas).encode()


def test_absurd_counts_and_names_are_held_to_what_can_be_stored(model):
    usage = {"prompt_tokens": 10**30, "completion_tokens": -3}
    done = model(stream(chunk("Yes."), chunk(finish="stop", model="m" * 999, usage=usage))).complete(PROMPT)
    assert (done.input_tokens, done.output_tokens, len(done.model)) == (2**31 - 1, 0, 200)


def test_a_model_that_does_not_stop_is_cut_off(model):
    with pytest.raises(AnswerRejected, match="more than"):
        model(stream(*[chunk("x" * 1000)] * (TEXT_LIMIT // 1000 + 1))).complete(PROMPT)


@pytest.mark.parametrize(("reason", "message"), [("length", "not complete"), ("content_filter", "withheld")])
def test_an_answer_without_its_end_is_rejected(model, reason, message):
    with pytest.raises(AnswerRejected, match=message):
        model(stream(chunk("It is"), chunk(finish=reason), DONE)).complete(PROMPT)


def test_calls_leave_no_thread_behind(model):
    client = model(stream(*GOOD))
    for _ in range(3):
        client.complete(PROMPT)
    assert not [thread for thread in threading.enumerate() if thread.name == "llm-watch"]


def openai_errors(root=openai.OpenAIError):
    yield root
    for child in root.__subclasses__():
        yield from openai_errors(child)


@pytest.mark.parametrize("error", sorted(set(openai_errors()), key=lambda cls: cls.__name__))
def test_every_exception_of_the_package_becomes_one_of_ours(error):
    made = error.__new__(error)
    if isinstance(made, openai.APIStatusError):
        request = httpx2.Request("POST", "http://x")
        made.status_code = getattr(error, "status_code", 418)
        made.response = httpx2.Response(418, request=request)
    assert isinstance(translate(made), LanguageModelUnavailable | AnswerRejected)


def test_the_scripted_model_says_its_lines_and_raises_its_errors():
    scripted, deltas = ScriptedModel(["It is a mole.", LanguageModelUnavailable("down")]), []
    assert scripted.complete(PROMPT, on_delta=deltas.append).text == "It is a mole." == "".join(deltas)
    with pytest.raises(LanguageModelUnavailable, match="down"):
        scripted.complete(PROMPT)
    assert scripted.prompts == [PROMPT, PROMPT]


def test_the_scripted_model_can_be_stopped():
    with pytest.raises(StaleAttempt):
        ScriptedModel(["It is a mole."]).complete(PROMPT, should_stop=lambda: True)
