"""A stand-in for vLLM: TRL's own client and generation run, what answers them is a small model in transformers.

`Engine` writes: it samples from its model, or writes what a script says with the probabilities that its model gives it. It
learns of the policy's weights by what TRL sends it, and by nothing else. `serve` puts it behind the endpoints of a vLLM server;
`colocate` behind vLLM's `LLM` class. What is not real: vLLM's kernels, its scheduler, and NCCL, through which TRL sends the
weights: here they take the way of the requests.
"""

import base64
import json
import math
import os
import queue
import random
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from safetensors.torch import load, save
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.generation import vllm_client, vllm_generation

from tests.tiny import build_model, build_tokenizer


@dataclass
class Request:
    """What the engine was asked to complete, and with what weights it did."""

    prompts: list[list[int]]
    images: list[list | None]
    n: int
    params: dict[str, Any]
    update: int


@dataclass
class Engine:
    """
    Writes with its own copy of the model in `folder`.

    `script(text, turn, rng) -> str` says what is written; without one the model is sampled from. `perturb(token, logprob)`
    is what it says of a token's log-probability: another kernel's. `stale` holds each update of the weights back for one.
    """

    folder: str
    script: Callable | None = None
    perturb: Callable[[int, float], float | None] = lambda token, logprob: logprob
    stale: bool = False
    max_model_len: int = 4096
    seed: int = 0
    requests: list[Request] = field(default_factory=list)
    updates: int = 0
    resets: int = 0
    on_request: Callable[["Engine"], None] = lambda engine: None

    def __post_init__(self):
        self.model, self.tokenizer = self.load()
        self.generator = torch.Generator().manual_seed(self.seed)
        self.rng = random.Random(self.seed)
        self._held: dict[str, torch.Tensor] | None = None

    def load(self) -> tuple[Any, Any]:
        """The model that the server was started with, and its tokenizer."""
        model = AutoModelForCausalLM.from_pretrained(self.folder)
        return model.eval(), AutoTokenizer.from_pretrained(self.folder)

    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Take the weights that TRL sent: all of them, and no others."""
        own = dict(self.model.named_parameters())
        assert weights.keys() == own.keys(), weights.keys() ^ own.keys()
        weights = {name: value.clone() for name, value in weights.items()}
        weights, self._held = (self._held or {}, weights) if self.stale else (weights, None)
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)
        self.updates += 1

    def complete(
        self, prompts: list[list[int]], params: dict[str, Any], images: list[list | None] | None = None
    ) -> list[tuple[list[int], list[float | None]]]:
        """`n` completions of each prompt, with the log-probability of each token."""
        images = images or [None] * len(prompts)
        self.on_request(self)
        self.requests.append(Request([list(ids) for ids in prompts], images, params["n"], dict(params), self.updates))
        rows = zip(prompts, images, strict=True)
        return [self._write(ids, params, shown) for ids, shown in rows for _ in range(params["n"])]

    def _write(
        self, prompt: list[int], params: dict[str, Any], images: list | None
    ) -> tuple[list[int], list[float | None]]:
        limit = min(params["max_tokens"], self.max_model_len - len(prompt))
        if self.script is None:
            ids = self._sample(prompt, limit, params["temperature"], images)
        else:
            text = self.tokenizer.decode(prompt)
            message = self.script(text, text.count("<|im_start|>assistant") - 1, self.rng)
            ids = self.tokenizer(message + "<|im_end|>", add_special_tokens=False)["input_ids"][:limit]
        logprobs = self.score(prompt, ids, params["temperature"], images).tolist()
        return ids, [self.perturb(token, logprob) for token, logprob in zip(ids, logprobs, strict=True)]

    def _sample(self, prompt: list[int], limit: int, temperature: float, images: list | None) -> list[int]:
        ids: list[int] = []
        while len(ids) < limit and self.tokenizer.eos_token_id not in ids:
            probabilities = self._logits(prompt + ids, images)[-1].div(temperature).softmax(-1)
            ids.append(torch.multinomial(probabilities, 1, generator=self.generator).item())
        return ids

    def score(self, prompt: list[int], ids: list[int], temperature: float, images: list | None) -> torch.Tensor:
        """Log-probability of each token of a completion."""
        logprobs = self._logits(prompt + ids, images).div(temperature).log_softmax(-1)
        return logprobs[len(prompt) - 1 : -1].gather(1, torch.tensor(ids)[:, None])[:, 0]

    @torch.no_grad()
    def _logits(self, ids: list[int], images: list | None) -> torch.Tensor:
        return self.model(input_ids=torch.tensor([ids]), **self.image_fields(ids, images or [])).logits[0].float()

    def image_fields(self, ids: list[int], images: list) -> dict[str, Any]:
        """What the model is given beside the tokens: of images, nothing."""
        assert not images
        return {}


def save_model(folder: Any) -> str:
    """The folder with the small model of the tests, from which trainer and engine are to load it."""
    tokenizer = build_tokenizer()
    build_model(tokenizer).save_pretrained(Path(folder, "model"))
    tokenizer.save_pretrained(Path(folder, "model"))
    return str(Path(folder, "model"))


# --- vllm_mode="server"


class _Handler(BaseHTTPRequestHandler):
    engine: Engine
    announced: queue.Queue
    arrived: queue.Queue
    images: dict[str, Image.Image]

    def do_GET(self):
        config = {"model_config": {"logprobs_mode": "processed_logprobs"}}
        path = self.path.partition("?")[0]
        self._answer(
            {
                "/health": {},
                "/v1/models": {"data": [{"id": self.engine.folder, "max_model_len": self.engine.max_model_len}]},
                "/server_info": {"vllm_config": config | {"weight_transfer_config": {"backend": "nccl"}}},
                "/get_world_size": {"world_size": 1},
            }[path]
        )

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self._answer(self._post(body))
        except Exception as error:
            self._answer({"error": repr(error)}, 400)  # not one of the codes at which TRL asks again

    def _post(self, body: bytes) -> dict:
        if self.path == "/stand_in/weights":
            weights = load(body)
            sent = [(name, str(w.dtype).removeprefix("torch."), list(w.shape)) for name, w in weights.items()]
            info = self.announced.get(timeout=60)
            assert sorted(sent) == sorted(zip(info["names"], info["dtype_names"], info["shapes"], strict=True))
            self.engine.load_weights(weights)
            self.arrived.put(None)
        elif self.path == "/update_weights":
            self.announced.put(json.loads(body)["update_info"])
            self.arrived.get(timeout=60)
        elif self.path == "/reset_prefix_cache":
            self.engine.resets += 1
            return {"success": True}
        elif self.path == "/v1/chat/completions/render":
            return {"features": self._render(json.loads(body)["messages"])}
        elif self.path == "/inference/v1/generate":
            return {"choices": self._choices_of_one(json.loads(body))}
        elif self.path == "/v1/completions":
            return {"choices": self._choices(json.loads(body))}
        else:
            known = ("/init_weight_transfer_engine", "/start_weight_update", "/finish_weight_update")
            assert self.path in known, self.path
        return {}

    def _choices(self, asked: dict) -> list[dict]:
        for ids in asked["prompt"]:
            if len(ids) + asked["max_tokens"] > self.engine.max_model_len:
                raise ValueError(f"This model's maximum context length is {self.engine.max_model_len} tokens.")
        choices = []
        for i, (ids, logprobs) in enumerate(self.engine.complete(asked["prompt"], asked)):
            names = [f"token_id:{token}" for token in ids]
            logprobs = [math.nan if value is None else value for value in logprobs]
            told = {"tokens": names, "token_logprobs": logprobs, "top_logprobs": [None] * len(ids)}
            choices.append({"prompt_token_ids": asked["prompt"][i // asked["n"]], "token_ids": ids, "logprobs": told})
        return choices

    def _render(self, messages: list[dict]) -> dict:
        """Keeps images, and gives a name of each."""
        parts = [part["image_url"]["url"] for message in messages for part in message["content"]]
        pictures = [Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB") for url in parts]
        names = [f"{len(self.images) + i}" for i in range(len(pictures))]
        self.images.update(zip(names, pictures, strict=True))
        places = [{"offset": 0, "length": 1} for _ in names]  # in a conversation that nobody has
        return {"mm_hashes": {"image": names}, "mm_placeholders": {"image": places}}

    def _choices_of_one(self, asked: dict) -> list[dict]:
        ids, features, params = asked["token_ids"], asked["features"], asked["sampling_params"]
        names = features["mm_hashes"]["image"] if features else []
        for place in features["mm_placeholders"]["image"] if features else []:
            assert len(set(ids[place["offset"] : place["offset"] + place["length"]])) == 1
        choices = []
        for written, logprobs in self.engine.complete([ids], params, [[self.images[name] for name in names]]):
            told = [
                {"token": f"token_id:{token}", "logprob": logprob, "top_logprobs": []}
                for token, logprob in zip(written, logprobs, strict=True)
            ]
            choices.append({"token_ids": written, "logprobs": {"content": told}})
        return choices

    def _answer(self, content: dict, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@contextmanager
def serve(engine: Engine) -> Iterator[dict[str, Any]]:
    """An engine behind a vLLM server's endpoints; gives the settings of a trainer that uses it."""
    handler = type(
        "Handler", (_Handler,), {"engine": engine, "announced": queue.Queue(), "arrived": queue.Queue(), "images": {}}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        with _client_without_vllm(url):
            yield {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": url, "vllm_server_timeout": 10}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _client_without_vllm(url: str) -> Iterator[None]:
    """TRL's client, without the package vllm: of that it uses an address, and NCCL to send the weights."""

    def send(iterator, group, src, post_iter_func):
        weights = {item[0]: post_iter_func(item).detach().contiguous().clone() for item in iterator}
        request = urllib.request.Request(f"{url}/stand_in/weights", data=save(weights))
        urllib.request.urlopen(request, timeout=60).read()

    joined = SimpleNamespace(group=SimpleNamespace(store=None, socket=None))
    init_communicator = vllm_client.VLLMClient.init_communicator
    replaced = [
        (vllm_client, "is_vllm_available", lambda *args, **kwargs: True),
        (vllm_generation, "is_vllm_available", lambda *args, **kwargs: True),
        (vllm_client, "get_ip", lambda: "127.0.0.1"),
        (vllm_client, "_HAS_STATEFUL_TRAINER_ENGINE", True),
        (vllm_client, "_HAS_RESET_PREFIX_CACHE_SUCCESS", True),
        (vllm_client, "open_trainer_endpoint", lambda info: joined),
        (vllm_client, "packed_nccl_broadcast_producer", send),
        # It refuses a device without NCCL.
        (vllm_client.VLLMClient, "init_communicator", lambda self, device: init_communicator(self, "cuda")),
    ]
    with _replaced(replaced):
        yield


# --- vllm_mode="colocate"


@contextmanager
def colocate(engine: Engine) -> Iterator[dict[str, Any]]:
    """An engine behind vLLM's class `LLM`; gives the settings of a trainer that uses it."""

    class LLM:
        def __init__(self, model, **settings):
            assert model == engine.folder
            assert settings["logprobs_mode"] == "processed_logprobs"
            weights: dict[str, torch.Tensor] = {}

            def load_weights(pairs):
                (pair,) = pairs
                weights.update([pair])
                if len(weights) == len(dict(engine.model.named_parameters())):
                    engine.load_weights(weights)
                    weights.clear()

            runner = SimpleNamespace(model=SimpleNamespace(load_weights=load_weights))
            self.llm_engine = SimpleNamespace(
                model_executor=SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner)),
                model_config=SimpleNamespace(max_model_len=engine.max_model_len),
            )

        def generate(self, prompts, sampling_params, use_tqdm):
            ids = [prompt["prompt_token_ids"] for prompt in prompts]
            shown = [prompt.get("multi_modal_data", {}).get("image") for prompt in prompts]
            shown = [row if row is None or isinstance(row, list) else [row] for row in shown]
            written = engine.complete(ids, sampling_params, shown)
            return [_output(prompt, *one) for prompt, one in zip(ids, written, strict=True)]

        def reset_prefix_cache(self):
            engine.resets += 1

    replaced = [
        (vllm_generation, "is_vllm_available", lambda *args, **kwargs: True),
        (vllm_generation, "LLM", LLM),
        (vllm_generation, "SamplingParams", dict),
    ]
    # TRL tells vLLM by environment variables that it is one process of one: no later test may find them.
    with _replaced(replaced), patch.dict(os.environ):
        yield {"use_vllm": True, "vllm_mode": "colocate"}


def _output(prompt: list[int], ids: list[int], logprobs: list[float | None]) -> Any:
    values = [math.nan if value is None else value for value in logprobs]
    told = [{i: SimpleNamespace(rank=1, logprob=value)} for i, value in zip(ids, values, strict=True)]
    return SimpleNamespace(prompt_token_ids=prompt, outputs=[SimpleNamespace(token_ids=ids, logprobs=told)])


@contextmanager
def _replaced(names: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Like pytest's monkeypatch, which a worker process has not; of names that are there only with vllm, too."""
    missing = object()
    before = [(owner, name, getattr(owner, name, missing)) for owner, name, _ in names]
    for owner, name, value in names:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            delattr(owner, name) if value is missing else setattr(owner, name, value)
