"""linkspan.toml: what an app says about itself, and errors that name the line."""

from linkspan.config.app import (
    CONFIG_FILE,
    AppConfig,
    EnvironmentSection,
    SmokeSection,
    TestSection,
    config_json,
    load_config,
    parse_config,
    parse_config_json,
)

__all__ = [
    "CONFIG_FILE",
    "AppConfig",
    "EnvironmentSection",
    "SmokeSection",
    "TestSection",
    "config_json",
    "load_config",
    "parse_config",
    "parse_config_json",
]
