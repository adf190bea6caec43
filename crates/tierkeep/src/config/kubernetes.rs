//! Variables that Kubernetes sets for every service of a namespace. Owns which of them look like settings and are none:
//! a service that is named `tierkeep` would otherwise keep the pod of tierkeep from starting.
//!
//! Rule source: Kubernetes documentation, "Service", environment variables of the Docker links form.

use std::net::IpAddr;

/// Whether Kubernetes set this variable for a service. The value has to fit too, so that a setting that was
/// misspelled is still an error.
pub(super) fn is_service_variable(name: &str, value: &str) -> bool {
    if name.ends_with("_SERVICE_HOST") {
        return value.parse::<IpAddr>().is_ok();
    }
    if let Some((_, port)) = name.split_once("_SERVICE_PORT") {
        return (port.is_empty() || port.starts_with('_')) && value.parse::<u16>().is_ok();
    }
    if name.ends_with("_PORT") && is_endpoint(value) {
        return true;
    }
    name.rsplit_once("_PORT_")
        .is_some_and(|(_, port)| is_of_port(port, value))
}

/// `8080_TCP`, `8080_TCP_PROTO`, `8080_TCP_PORT` or `8080_TCP_ADDR`, and what each holds.
fn is_of_port(port: &str, value: &str) -> bool {
    let mut parts = port.split('_');
    let number = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
    let protocol = parts
        .next()
        .is_some_and(|it| matches!(it, "TCP" | "UDP" | "SCTP"));
    let fits = match (parts.next(), parts.next()) {
        (None, _) => is_endpoint(value),
        (Some("PROTO"), None) => matches!(value, "tcp" | "udp" | "sctp"),
        (Some("PORT"), None) => value.parse::<u16>().is_ok(),
        (Some("ADDR"), None) => value.parse::<IpAddr>().is_ok(),
        (Some(_), _) => false,
    };
    number && protocol && fits
}

/// `tcp://10.0.0.1:8080`.
fn is_endpoint(value: &str) -> bool {
    let rest = ["tcp://", "udp://", "sctp://"]
        .iter()
        .find_map(|scheme| value.strip_prefix(scheme));
    rest.and_then(|rest| rest.rsplit_once(':'))
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("TIERKEEP_SERVICE_HOST", "10.96.14.3")]
    #[case("TIERKEEP_SERVICE_HOST", "fd00::1")]
    #[case("TIERKEEP_SERVICE_PORT", "8080")]
    #[case("TIERKEEP_SERVICE_PORT_HTTP", "8080")]
    #[case("TIERKEEP_PORT", "tcp://10.96.14.3:8080")]
    #[case("TIERKEEP_PORT_8080_TCP", "tcp://10.96.14.3:8080")]
    #[case("TIERKEEP_PORT_8080_TCP_PROTO", "tcp")]
    #[case("TIERKEEP_PORT_8080_TCP_PORT", "8080")]
    #[case("TIERKEEP_PORT_8080_TCP_ADDR", "10.96.14.3")]
    #[case("TIERKEEP_OPS_PORT", "tcp://[fd00::1]:9090")]
    #[case("TIERKEEP_OPS_PORT_9090_TCP_ADDR", "10.96.14.4")]
    fn those_of_a_service_are_known(#[case] name: &str, #[case] value: &str) {
        assert!(is_service_variable(name, value));
    }

    #[rstest]
    #[case("TIERKEEP_PORT", "8080")]
    #[case("TIERKEEP_PORT", "tcp://")]
    #[case("TIERKEEP_SERVICE_HOST", "db.example.org")]
    #[case("TIERKEEP_SERVICE_PORT", "tcp://10.96.14.3:8080")]
    #[case("TIERKEEP_PORT_8080", "tcp://10.96.14.3:8080")]
    #[case("TIERKEEP_PORT_8080_TCP_NAME", "tcp")]
    #[case("TIERKEEP_RETENSION", "24h")]
    fn everything_else_is_a_setting_or_a_mistake(#[case] name: &str, #[case] value: &str) {
        assert!(!is_service_variable(name, value));
    }
}
