"""The configuration: DVID's TOML, the assignment of data to stores, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvidcore import config
from dvidcore.config import ConfigError

STORE = '[store.main]\nengine = "leveldb"\npath = "db"\n'
HERE = Path("/somewhere")


def parse(text: str) -> config.Config:
    return config.parse(text, HERE)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


def test_defaults() -> None:
    found = parse(STORE)
    assert found.server.address == ("127.0.0.1", 8000)
    assert found.server.threads == 8
    assert found.server.backend == "waitress"
    assert found.stores["main"].path == "/somewhere/db"
    assert found.assignment.metadata == "main"
    assert found.warnings == ()


def test_server_keys_in_any_case_and_relative_paths_start_at_the_file() -> None:
    found = parse(
        STORE
        + """[Server]
        HTTPaddress = "0.0.0.0:9000"
        RPCADDRESS = "localhost:9001"
        host = "alias"
        note = "a note"
        webclient = "web"
        webRedirectPath = "index"
        pidFile = "run/pid"
        blockListFile = "/abs/list"
        corsDomains = ["http://a", "*"]
        rwmode = "ReadOnly"
        allowTiming = true
        min_mutation_id_start = 2000000000
        shutdownDelay = 0
        threads = 3
        maxBodySize = 1000
        sync = false
        nonsense = [1, 2]
        [logging]
        logfile = "log/dvid.log"
        max_log_size = 500
        max_log_age = 30
        [mutations]
        jsonstore = "mutations"
        """
    )
    server = found.server
    assert server.address == ("0.0.0.0", 9000)
    assert (server.host, server.note, server.rpc_address) == ("alias", "a note", "localhost:9001")
    assert server.web_client == HERE / "web"
    assert server.pid_file == HERE / "run/pid"
    assert server.block_list_file == Path("/abs/list")
    assert server.cors_domains == ("http://a", "*")
    assert (server.mode, server.allow_timing, server.threads, server.sync) == ("readonly", True, 3, False)
    assert (server.min_mutation_id_start, server.max_body_size) == (2_000_000_000, 1000)
    assert found.logging == config.LoggingConfig(HERE / "log/dvid.log", 500, 30)
    assert found.json_log == HERE / "mutations"


def test_store_options_and_engine_names() -> None:
    found = parse('[store.a]\nengine = "basholeveldb"\npath = "/data/a"\nCacheSize = 100\nbloomfilterbitsperkey = 8\n')
    store = found.stores["a"]
    assert store.engine == "basholeveldb"
    assert store.path == "/data/a"
    assert dict(store.options) == {"cachesize": 100, "bloomfilterbitsperkey": 8}


def test_assignment_takes_the_most_specific_backend() -> None:
    names = ("default", "meta", "bytype", "bytag", "byname", "byuuid", "bycolon")
    stores = "".join(f'[store.{name}]\nengine = "leveldb"\npath = "{name}"\n' for name in names)
    found = parse(
        stores
        + """
        [backend.default]
        store = "default"
        [backend.metadata]
        store = "meta"
        [backend.labelmap]
        store = "bytype"
        [backend."kind=mesh"]
        store = "bytag"
        [backend."sort:skeleton"]
        store = "bycolon"
        [backend."seg:99ef22cd85f143f58a623bd22aad0ef7"]
        store = "byname"
        [backend.661c0d0b5ae14dd4a5a8f4a4f5a0b1c2]
        store = "byuuid"
        """
    )
    assign = found.assignment

    def store(
        typename: str = "labelmap", tags: dict[str, str] | None = None, name: str = "x:0", data: str = "0"
    ) -> str:
        return assign.store_for(typename, tags or {}, name, data)

    assert assign.metadata == "meta"
    assert store("keyvalue") == "default"
    assert store() == "bytype"
    assert store(tags={"kind": "mesh"}) == "bytag"
    assert store(tags={"sort": "skeleton"}) == "bycolon"
    name = "seg:99ef22cd85f143f58a623bd22aad0ef7"
    assert store(tags={"kind": "mesh"}, name=name) == "byname"
    assert store(name=name, data="661c0d0b5ae14dd4a5a8f4a4f5a0b1c2") == "byuuid"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no [store.NAME]"),
        ('[store.a]\npath = "x"', "no engine"),
        ('[store.a]\nengine = "leveldb"', "no path"),
        ('[store.a]\nengine = "gbucket"\nref = "b"', "not available"),
        ('[store.a]\nengine = "leveldb"\npath = "x"\n[store.b]\nengine = "lmdb"\npath = "./y/../x"', "same path"),
        (STORE + '[store.b]\nengine = "leveldb"\npath = "b"', "[backend.default]"),
        (STORE + '[backend.default]\nstore = "other"', '"other" is not configured'),
        (STORE + '[server]\nhttpAddress = "localhost:port"', "HOST:PORT"),
        (STORE + '[server]\nhttpAddress = "localhost:70000"', "0 to 65535"),
        (STORE + "[server]\nhttpAddress = 8000", "must be a text"),
        (STORE + "[server]\nthreads = 0", "at least 1"),
        (STORE + "[server]\nthreads = true", "whole number"),
        (STORE + '[server]\nbackend = "apache"', "waitress"),
        (STORE + '[server]\nrwmode = "maybe"', "readonly"),
        (STORE + '[server]\ncorsDomains = "*"', "list of texts"),
        (STORE + '[server]\nstartJaneliaConfig = "http://x"', "startWebhook"),
        (STORE + '[auth]\nenforce = "token"', "authentication"),
        (STORE + '[kafka]\nservers = ["a:9092"]', "Kafka"),
        (STORE + '[mirror.all]\nservers = ["http://a"]', "mirrors"),
        (STORE + '[mutations]\nhttpstore = "kafka:t"', "httpstore"),
        ("server = 3\n" + STORE, "must be a section"),
        ('backend = "x"\n' + STORE, "must hold sections"),
        (STORE + "[server]\nslowRequest = nan", "must be a number"),
        (STORE + f'[server]\nhttpAddress = "localhost:{"8" * 5000}"', "0 to 65535"),
        ('[store.a]\nengine = "leveldb"\npath = "a\\u0000b"', "must be a path"),
    ],
)
def test_what_cannot_be_kept_is_refused(text: str, says: str) -> None:
    assert says in refused(text)


def test_what_has_no_effect_is_said() -> None:
    found = parse(
        "[server]\ninteractiveOpsBeforeBlock = 3\nallowLabelmapSplit = true\n"
        + STORE
        + '[auth]\nenforce = "none"\n[email]\nnotify = ["a@b"]\n[cache.labelmap]\nsize = 10\n'
    )
    assert [text.partition(" has")[0] for text in found.warnings] == [
        "[email]",
        "[cache]",
        "[server] interactiveOpsBeforeBlock",
    ]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:1", ("127.0.0.1", 1)),
        (":8000", ("0.0.0.0", 8000)),
        ("example.org", ("example.org", 8000)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert config.parse_address(text) == address


def test_load_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        config.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[store\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        config.load(tmp_path / "bad.toml")
    (tmp_path / "good.toml").write_text(STORE)
    found = config.load(tmp_path / "good.toml")
    assert found.text == STORE
    assert found.stores["main"].path == str(tmp_path / "db")


def test_a_folder_alone() -> None:
    found = config.from_folder("data").with_server(threads=2, http_address=":1")
    assert found.stores["default"].engine == "leveldb"
    assert found.server.threads == 2
    assert found.server.address == ("0.0.0.0", 1)
