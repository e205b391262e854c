"""Check one port against Mozilla's profile "intermediate" with sslyze's own Python; prints findings as JSON."""

import argparse
import json
import sys
from pathlib import Path

from sslyze import (
    ProtocolWithOpportunisticTlsEnum,
    Scanner,
    ServerNetworkConfiguration,
    ServerNetworkLocation,
    ServerScanRequest,
    ServerScanStatusEnum,
)
from sslyze.mozilla_tls_profile.tls_config_checker import (
    SCAN_COMMANDS_NEEDED_BY_MOZILLA_CHECKER,
    MozillaTlsConfiguration,
    ServerNotCompliantWithTlsConfiguration,
    TlsConfigurationEnum,
    check_server_against_tls_configuration,
)
from sslyze.server_setting import ClientAuthenticationCredentials

parser = argparse.ArgumentParser()
parser.add_argument("address")
parser.add_argument("port", type=int)
parser.add_argument("name")
parser.add_argument("--starttls", choices=["smtp"])
parser.add_argument("--client", nargs=2, metavar=("CERTIFICATE", "KEY"))
arguments = parser.parse_args()

credentials = None
if arguments.client:
    certificate, key = arguments.client
    credentials = ClientAuthenticationCredentials(Path(certificate), Path(key))
request = ServerScanRequest(
    server_location=ServerNetworkLocation(
        hostname=arguments.name, port=arguments.port, ip_address=arguments.address
    ),
    network_configuration=ServerNetworkConfiguration(
        tls_server_name_indication=arguments.name,
        tls_opportunistic_encryption=ProtocolWithOpportunisticTlsEnum.SMTP if arguments.starttls else None,
        tls_client_auth_credentials=credentials,
        network_timeout=20,
    ),
    scan_commands=SCAN_COMMANDS_NEEDED_BY_MOZILLA_CHECKER,
)
scanner = Scanner(per_server_concurrent_connections_limit=1)
scanner.queue_scans([request])
(result,) = scanner.get_results()
if result.scan_status is not ServerScanStatusEnum.COMPLETED:
    sys.exit(
        f"{arguments.address}:{arguments.port} cannot be judged: {result.connectivity_error_trace or result.scan_status}"
    )

findings = {}
try:
    # protocols, ciphers, curves, keys, signatures, compression, renegotiation, and the known attacks
    check_server_against_tls_configuration(
        result, MozillaTlsConfiguration.get(TlsConfigurationEnum.MOZILLA_INTERMEDIATE)
    )
except ServerNotCompliantWithTlsConfiguration as error:
    # who issued it is judged elsewhere: sslyze's trust stores are those of browsers
    findings = {what: why for what, why in error.issues.items() if what != "certificate_path_validation"}
json.dump(findings, sys.stdout)
