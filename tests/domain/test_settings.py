"""What is wrong is found at start, before the first request finds it."""

from __future__ import annotations

import pytest

from core.domain.settings import Settings, SettingsError

CA = """\
-----BEGIN CERTIFICATE-----
MIIBcjCCARegAwIBAgIUSNrf6anPqBb7qQhdzD6U1SHRHwkwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI2MTI1NTU5WhgPMjEyNjExMDIxMjU1NTla
MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBhL03lSG
X15tcmRGUVuGbXgk9JPn8bJC0UzBKsVBSpdEYCDF5v4usAKEYcJW9FuYz7hLcbgZ
qF3/6cXJyz0xb6NTMFEwHQYDVR0OBBYEFGKvkwlyiqgOmiV6W8KSwjhCI3UHMB8G
A1UdIwQYMBaAFGKvkwlyiqgOmiV6W8KSwjhCI3UHMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDSQAwRgIhAJRH4Cor0ZPcdTvKCY0NEPJOi28JUPJe0i4kNX71
MFSaAiEAjYY0WJAR5RW2F/rFQXHnePe5W7AbU8tQIdp1gn6wjZI=
-----END CERTIFICATE-----
"""


def read(**environment: str) -> Settings:
    return Settings.read(environment, ())


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://127.0.0.1:6379/0",
        "redis://user:p%40ss%2Fword@[::1]:6379/15",
        "rediss://:secret@10.0.0.3:6378",
        "rediss://redis.example:6378?db=2",
        "unix:///run/redis.sock",
        "unix://:secret@/run/redis.sock?db=1",
    ],
)
def test_a_redis_url_that_the_client_can_use_is_taken_as_it_is(url: str) -> None:
    assert read(REDIS_URL=url).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:canary@127.0.0.1:abc/0",
        "redis://:canary@127.0.0.1:70000/0",
        "redis://:canary@127.0.0.1:0/0",
        "redis://:canary@127.0.0.1:6379/abc",
        "redis://:canary@127.0.0.1:6379/1/2",
        "redis://:canary@127.0.0.1:6379?db=x",
        "redis://:can/ary@127.0.0.1:6379",
        "redis://:canary@",
        "redis:///0",
        "unix://:canary@",
        "unix:///run/redis.sock?db=canary",
        "http://:canary@127.0.0.1",
        "canary",
    ],
)
def test_a_redis_url_that_would_fail_or_mean_another_database_is_refused_unseen(url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL: expected redis://HOST:PORT/DATABASE") as error:
        read(REDIS_URL=url)
    assert "can" not in str(error.value)


@pytest.mark.parametrize("certificates", [CA, CA + CA, f"CN=ca\n{CA}"])
def test_certificates_in_pem_are_taken(certificates: str) -> None:
    assert read(REDIS_CA_CERT=certificates).redis_ca_cert == certificates.strip()


@pytest.mark.parametrize(
    "certificates",
    ["canary", "canary é", "/etc/canary.pem", CA.replace("\n", ""), CA[: len(CA) // 2], CA.replace("M", "!")],
)
def test_what_are_no_certificates_is_refused_unseen(certificates: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_CA_CERT: expected certificates in PEM") as error:
        read(REDIS_CA_CERT=certificates)
    assert certificates[-20:] not in str(error.value)


@pytest.mark.parametrize("prefix", ["staging-", "fairlane-eu-", "online-"])
def test_a_prefix_of_secrets_is_taken(prefix: str) -> None:
    assert Settings.read({"SECRET_PREFIX": prefix}, ()).secret_prefix == prefix


@pytest.mark.parametrize("prefix", ["staging", "line-", "line-x-", "a-line-b-", "Staging-", "-a-", "a/b-"])
def test_a_prefix_that_could_begin_another_deployments_secrets_is_refused(prefix: str) -> None:
    """Access is granted by how a name begins: `line-`, or `a-line-` for the prefix `a-`."""
    with pytest.raises(SettingsError, match="SECRET_PREFIX"):
        Settings.read({"SECRET_PREFIX": prefix}, ())
