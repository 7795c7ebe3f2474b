"""The configuration of a server: DVID's TOML file, or the command line alone.

Sections and keys are DVID's with a few of dvidcore's own in ``[server]``. Keys of fixed sections are
case-insensitive, unknown ones are ignored, relative paths start at the file's folder. What cannot be kept (an unknown
store, two stores at one path, a feature that dvidcore does not have but that data or access would depend on) is refused
with a ``ConfigError``; what is merely without effect is listed in ``Config.warnings``.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dvidcore.errors import DvidError

DEFAULT_PORT = 8000
BACKENDS = ("waitress", "granian")
MODES = ("", "readonly", "fullwrite")
REMOTE_SCHEMES = ("gs", "s3", "vast", "http", "https", "file")
"""Of volumes elsewhere; ``vast://HOST/BUCKET`` is an S3-compatible service at a host."""
S3_CREDENTIALS = ("default", "environment", "anonymous")


class ConfigError(DvidError):
    """The configuration cannot be used; the text says which key and what is allowed."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """``[store.NAME]``: an engine, where it lies, and the engine's own options by lower-case name."""

    name: str
    engine: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """``[server]``; sizes in bytes, times in seconds."""

    host: str = ""
    http_address: str = f"localhost:{DEFAULT_PORT}"
    rpc_address: str = "localhost:8001"
    note: str = ""
    web_client: Path | None = None
    web_redirect_path: str = ""
    web_default_file: str = ""
    pid_file: Path | None = None
    cors_domains: tuple[str, ...] = ()
    allow_timing: bool = False
    allow_labelmap_split: bool = False
    mode: str = ""
    block_list_file: Path | None = None
    start_webhook: str = ""
    instance_id_gen: str = "sequential"
    instance_id_start: int = 1
    min_mutation_id_start: int = 0
    threads: int = 8
    backend: str = "waitress"
    max_body_size: int = 2 << 30
    max_data_request: int = 3 << 30
    slow_request: float = 5.0
    sync: bool = True

    @property
    def address(self) -> tuple[str, int]:
        """The host and port to listen at."""
        return parse_address(self.http_address)


@dataclass(frozen=True, slots=True)
class GridConfig:
    """``[store.NAME]`` with the engine ``ngprecomputed``: a precomputed volume that image instances show."""

    name: str
    url: str
    instance: str = ""
    """The name of the instances that are made by themselves, one for each scale; empty for none."""
    uuid: str = ""
    """Of the repo that gets them; empty for the only one."""


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    """``[remote]``: which volumes of other services instances may show, and what reading them may cost."""

    allowed: tuple[str, ...] = ()
    """Prefixes of URLs, as ``"s3://bucket/path"`` or ``"file:///data/volumes"``; nothing else is read."""
    cache_bytes: int = 256 << 20
    """Decoded chunks that are kept, of all volumes together."""
    timeout: float = 30.0
    """Seconds that the other service may take for a piece of an answer."""
    retries: int = 2
    """How often a request that the other service failed is sent again, at least once."""
    concurrency: int = 6
    """Requests that may wait for other services at the same time; it leaves threads for those that need not."""
    recheck: float = 3600.0
    """Seconds after which a volume is opened anew, so that changes of it are seen."""
    s3_endpoint: str = ""
    """The URL of an S3-compatible service instead of Amazon's."""
    s3_region: str = ""
    s3_credentials: str = "default"
    """``default`` (environment, profile, machine), ``environment`` or ``anonymous``."""
    key_folder: Path | None = None
    """The folder of the service-account keys that googlevoxels may use."""
    brainmaps_url: str = "https://brainmaps.googleapis.com/v1"
    grids: tuple[GridConfig, ...] = ()
    """What ``GridStore`` of an image instance may name; their URLs are allowed."""


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """``[logging]``: a file instead of stdout, its largest size in MB, the age in days at which old ones go."""

    logfile: Path | None = None
    max_log_size: int = 0
    max_log_age: int = 0


@dataclass(frozen=True, slots=True)
class Backend:
    """``[backend.SPEC]``: the store of what SPEC names."""

    store: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which store holds what: the first of DataUUID, ``name:uuid``, ``tag=value``, type, default that is configured."""

    backends: Mapping[str, Backend]
    default: str

    @property
    def metadata(self) -> str:
        """The store of the repos' metadata."""
        found = self.backends.get("metadata")
        return found.store if found is not None else self.default

    def store_for(self, typename: str, tags: Mapping[str, str], name_uuid: str, data_uuid: str) -> str:
        """The store of an instance; ``name_uuid`` is its name and the UUID of the version of its creation."""
        backends = self.backends
        for spec in (data_uuid, name_uuid):
            if spec in backends:
                return backends[spec].store
        for key, value in tags.items():
            for spec in (f"{key}={value}", f"{key}:{value}"):
                if spec in backends:
                    return backends[spec].store
        found = backends.get(typename)
        return found.store if found is not None else self.default


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a server is started with."""

    server: ServerConfig
    stores: Mapping[str, StoreConfig]
    assignment: Assignment
    logging: LoggingConfig = LoggingConfig()
    remote: RemoteConfig = RemoteConfig()
    former_indices: frozenset[str] = frozenset()
    """``[mutcache.NAME]``: label instances, by name or DataUUID, that keep indices as they were before mutations."""
    json_log: Path | None = None
    file: Path | None = None
    text: str = ""
    warnings: tuple[str, ...] = ()

    def with_server(self, **changes: Any) -> Config:
        """The same with other ``[server]`` settings: what the command line overrides."""
        return replace(self, server=replace(self.server, **changes))


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` as a pair. ``localhost`` is 127.0.0.1; an empty host, as in ``:8000``, all interfaces."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(DEFAULT_PORT)
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65536):
        raise ConfigError(f'httpAddress: "{text}" is not HOST:PORT with a port of 0 to 65535')
    host = host.removeprefix("[").removesuffix("]")
    return {"": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host), int(port)


def from_folder(folder: str | Path, engine: str = "leveldb") -> Config:
    """The configuration without a file: one store in ``folder``, everything else by default."""
    store = StoreConfig("default", engine, str(Path(folder).absolute()))
    return Config(ServerConfig(), {"default": store}, Assignment({}, "default"))


def load(path: str | Path) -> Config:
    """Reads a TOML file; ``ConfigError`` where it cannot be read or says what cannot be kept."""
    path = Path(path).absolute()
    try:
        text = path.read_text("utf-8")
        return parse(text, path.parent, path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def parse(text: str, folder: Path, file: Path | None = None) -> Config:
    """The configuration in a TOML text whose relative paths start at ``folder``."""
    document = {name.lower(): section for name, section in tomllib.loads(text).items()}
    warnings: list[str] = []
    sections = {name: _Section(name, document.get(name, {}), folder) for name in _FIXED}
    _refuse_unsupported(sections, document, warnings)
    stores, grids = _stores(document, folder)
    server = _server(sections["server"])
    return Config(
        server=server,
        stores=stores,
        assignment=_assignment(document, stores),
        logging=LoggingConfig(
            sections["logging"].path("logfile"),
            sections["logging"].integer("max_log_size", 0),
            sections["logging"].integer("max_log_age", 0),
        ),
        remote=_remote(sections["remote"], server.threads, grids),
        former_indices=_names(document, "mutcache"),
        json_log=sections["mutations"].path("jsonstore"),
        file=file,
        text=text,
        warnings=tuple(warnings),
    )


def _names(document: Mapping[str, Any], section: str) -> frozenset[str]:
    """The NAMEs of all ``[section.NAME]``."""
    found = document.get(section, {})
    if not isinstance(found, dict) or not all(isinstance(table, dict) for table in found.values()):
        raise ConfigError(f"[{section}] must be sections [{section}.NAME]")
    return frozenset(found)


_FIXED = ("server", "auth", "logging", "mutations", "remote", "kafka", "email", "groupcache")


class _Section:
    """One section of the file: its keys in lower case, each read with a type and a default."""

    def __init__(self, name: str, table: Any, folder: Path) -> None:
        if not isinstance(table, dict):
            raise ConfigError(f"[{name}] must be a section")
        self.name, self.folder = name, folder
        self.table = {key.lower(): value for key, value in table.items()}

    def _get(self, key: str, kind: type | tuple[type, ...], default: Any, wanted: str) -> Any:
        value = self.table.get(key.lower(), default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"[{self.name}] {key} = {value!r}: must be {wanted}")
        return value

    def text(self, key: str, default: str = "") -> str:
        value: str = self._get(key, str, default, "a text")
        return value

    def integer(self, key: str, default: int, least: int = 0) -> int:
        value: int = self._get(key, int, default, "a whole number")
        if value < least:
            raise ConfigError(f"[{self.name}] {key} = {value}: must be at least {least}")
        return value

    def number(self, key: str, default: float) -> float:
        value: float = self._get(key, (int, float), default, "a number")
        if math.isnan(value):
            raise ConfigError(f"[{self.name}] {key} = {value!r}: must be a number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value: bool = self._get(key, bool, default, "true or false")
        return value

    def word(self, key: str, default: str, words: tuple[str, ...]) -> str:
        value = self.text(key, default).lower()
        if value not in words:
            allowed = ", ".join(f'"{w}"' for w in words if w)
            raise ConfigError(f'[{self.name}] {key} = "{value}": must be one of {allowed}')
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key, list, [], "a list of texts")
        if not all(isinstance(item, str) for item in value):
            raise ConfigError(f"[{self.name}] {key}: must be a list of texts")
        return tuple(value)

    def path(self, key: str) -> Path | None:
        value = self.text(key)
        if "\0" in value:
            raise ConfigError(f"[{self.name}] {key} = {value!r}: must be a path")
        return self.folder / value if value else None


def _server(section: _Section) -> ServerConfig:
    default = ServerConfig()
    text, integer = section.text, section.integer
    config = ServerConfig(
        host=text("host"),
        http_address=text("httpAddress") or default.http_address,
        rpc_address=text("rpcAddress") or default.rpc_address,
        note=text("note"),
        web_client=section.path("webClient"),
        web_redirect_path=text("webRedirectPath"),
        web_default_file=text("webDefaultFile"),
        pid_file=section.path("pidFile"),
        cors_domains=section.texts("corsDomains"),
        allow_timing=section.flag("allowTiming", False),
        allow_labelmap_split=section.flag("allowLabelmapSplit", False),
        mode=section.word("rwmode", "", MODES),
        block_list_file=section.path("blockListFile"),
        start_webhook=text("startWebhook"),
        instance_id_gen=section.word("instance_id_gen", default.instance_id_gen, ("sequential", "random")),
        instance_id_start=integer("instance_id_start", default.instance_id_start, least=1),
        min_mutation_id_start=integer("min_mutation_id_start", 0),
        threads=integer("threads", default.threads, least=1),
        backend=section.word("backend", default.backend, BACKENDS),
        max_body_size=integer("maxBodySize", default.max_body_size, least=1),
        max_data_request=integer("maxDataRequest", default.max_data_request, least=1),
        slow_request=section.number("slowRequest", default.slow_request),
        sync=section.flag("sync", True),
    )
    parse_address(config.http_address)
    return config


def _remote(section: _Section, threads: int, grids: tuple[GridConfig, ...]) -> RemoteConfig:
    default = RemoteConfig()
    config = RemoteConfig(
        allowed=(*section.texts("allowed"), *(grid.url for grid in grids)),
        grids=grids,
        cache_bytes=section.integer("cacheBytes", default.cache_bytes),
        timeout=section.number("timeout", default.timeout),
        retries=section.integer("retries", default.retries, least=1),
        concurrency=section.integer("concurrency", max(1, threads * 3 // 4), least=1),
        recheck=section.number("recheck", default.recheck),
        s3_endpoint=section.text("s3Endpoint").rstrip("/"),
        s3_region=section.text("s3Region"),
        s3_credentials=section.word("s3Credentials", default.s3_credentials, S3_CREDENTIALS),
        key_folder=section.path("keyFolder"),
        brainmaps_url=section.text("brainmapsURL", default.brainmaps_url).rstrip("/"),
    )
    for prefix in config.allowed:
        scheme, _, rest = prefix.partition("://")
        if scheme not in REMOTE_SCHEMES or "://" not in prefix:
            raise ConfigError(
                f'[remote] allowed: "{prefix}" must start with one of {", ".join(REMOTE_SCHEMES)}, and ://'
            )
        if scheme == "file" and not (rest.startswith("/") and rest.strip("/")):
            raise ConfigError(f'[remote] allowed: "{prefix}" must name a folder, as in file:///data/volumes')
    if config.timeout <= 0 or config.recheck <= 0:
        raise ConfigError("[remote] timeout and recheck must be greater than 0")
    for key, url in (("s3Endpoint", config.s3_endpoint), ("brainmapsURL", config.brainmaps_url)):
        if url and not url.startswith(("http://", "https://")):
            raise ConfigError(f'[remote] {key} = "{url}": must be an http:// or https:// URL')
    return config


def _grid(section: _Section, name: str) -> GridConfig:
    ref = section.text("ref")
    if not ref:
        raise ConfigError(f"[store.{name}] has no ref: the bucket and path of the volume")
    url = ref if "://" in ref else f"gs://{ref}"
    return GridConfig(name, url, section.text("instance"), section.text("uuid"))


def _stores(document: Mapping[str, Any], folder: Path) -> tuple[dict[str, StoreConfig], tuple[GridConfig, ...]]:
    tables = document.get("store", {})
    if not isinstance(tables, dict) or not tables:
        raise ConfigError("there is no [store.NAME]: at least one store must be configured")
    stores: dict[str, StoreConfig] = {}
    grids: list[GridConfig] = []
    at: dict[Path, str] = {}
    for name, table in tables.items():
        section = _Section(f"store.{name}", table, folder)
        engine, path = section.text("engine").lower(), section.path("path")
        if not engine:
            raise ConfigError(f"[store.{name}] has no engine")
        if engine == "ngprecomputed":
            grids.append(_grid(section, name))
            continue
        if engine in ("filelog", "filestore", "gbucket", "swift", "kvautobus"):
            raise ConfigError(f'[store.{name}] engine = "{engine}" of DVID is not available in dvidcore')
        if path is None and engine != "memory":
            raise ConfigError(f"[store.{name}] has no path")
        if path is not None:
            same = at.setdefault(path.resolve(), name)
            if same != name:
                raise ConfigError(f"[store.{name}] and [store.{same}] have the same path {path}")
        options = {key: value for key, value in section.table.items() if key not in ("engine", "path")}
        stores[name] = StoreConfig(name, engine, str(path) if path is not None else "", options)
    if not stores:
        raise ConfigError("all stores are volumes elsewhere: at least one must hold data")
    return stores, tuple(grids)


def _assignment(document: Mapping[str, Any], stores: Mapping[str, StoreConfig]) -> Assignment:
    backends: dict[str, Backend] = {}
    tables = document.get("backend", {})
    if not isinstance(tables, dict):
        raise ConfigError("[backend] must hold sections [backend.NAME]")
    for spec, table in tables.items():
        section = _Section(f"backend.{spec}", table, Path())
        store = section.text("store")
        if store and store not in stores:
            raise ConfigError(f'[backend.{spec}] store = "{store}" is not configured; there are {", ".join(stores)}')
        if store:
            backends[spec] = Backend(store, section.text("log"))
    if "default" in backends:
        return Assignment(backends, backends["default"].store)
    if len(stores) > 1:
        raise ConfigError("there are several stores: [backend.default] must name the one to use by default")
    return Assignment(backends, next(iter(stores)))


def _refuse_unsupported(sections: Mapping[str, _Section], document: Mapping[str, Any], warnings: list[str]) -> None:
    """Refuses what data or access would depend on; notes what is merely without effect."""
    enforce = sections["auth"].text("enforce").lower()
    if enforce not in ("", "none"):
        raise ConfigError(f'[auth] enforce = "{enforce}": authentication is not available in dvidcore, only "none"')
    if sections["kafka"].texts("servers"):
        raise ConfigError("[kafka] servers: Kafka is not available in dvidcore; remove the section")
    if document.get("mirror"):
        raise ConfigError("[mirror]: mirrors are not available in dvidcore; remove the section")
    for key in ("httpstore", "blobstore"):
        if sections["mutations"].text(key):
            raise ConfigError(f"[mutations] {key} is not available in dvidcore; remove the key")
    if sections["server"].text("startjaneliaconfig"):
        raise ConfigError("[server] startJaneliaConfig is not available in dvidcore; startWebhook is")
    for name in ("email", "groupcache", "cache"):
        if document.get(name):
            warnings.append(f"[{name}] has no effect in dvidcore")
    if sections["server"].table.get("interactiveopsbeforeblock"):
        warnings.append("[server] interactiveOpsBeforeBlock has no effect in dvidcore")
    backends = document.get("backend")
    if isinstance(backends, dict) and any(isinstance(table, dict) and table.get("log") for table in backends.values()):
        warnings.append("[backend.*] log has no effect in dvidcore: mutation logs are kept in the instance's store")
