//! Checks the addresses, domains and name servers of settings. Never binds an address.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::ConfigError;

/// Checks the form `host:port` of an address. Only binding the address shows whether the host
/// exists and the port is free.
pub(crate) fn written_address(value: &str) -> Result<String, &'static str> {
    let (host, port) = value.rsplit_once(':').ok_or("it has no port, such as 8080 in 127.0.0.1:8080")?;
    if host.is_empty() {
        return Err("it has no host: write 0.0.0.0 before the port for all addresses of this machine");
    }
    match port.parse::<u16>() {
        Ok(_) => Ok(value.to_owned()),
        Err(_) => Err("its port is not a number from 0 to 65535"),
    }
}

pub(super) fn address(name: &'static str, value: &str) -> Result<SocketAddr, ConfigError> {
    let bad = |reason: String| ConfigError::BadAddress { name, value: value.to_owned(), reason };
    written_address(value).map_err(|reason| bad(reason.to_owned()))?;
    let mut found = value.to_socket_addrs().map_err(|e| bad(e.to_string()))?;
    found.next().ok_or_else(|| bad("the name has no address".to_owned()))
}

/// Parses a name server: an address, by default with port 53. A name would itself need a lookup.
pub(super) fn name_server(value: &str) -> Result<SocketAddr, ConfigError> {
    let whole = value.parse().or_else(|_| value.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
    whole.map_err(|_| ConfigError::BadAddress {
        name: "outbound.resolver",
        value: value.to_owned(),
        reason: "a name server must be an IP address, such as 192.0.2.53 or 127.0.0.1:5353".to_owned(),
    })
}

/// Checks the domain of the apps, and returns it in lower case without a dot at its end.
pub(crate) fn domain_name(value: &str) -> Result<String, ConfigError> {
    let bad = |reason| ConfigError::BadDomain { value: value.to_owned(), reason };
    let domain = value.trim_end_matches('.').to_ascii_lowercase();
    if domain.is_empty() || domain.len() > 180 {
        return Err(bad("it must have 1 to 180 characters"));
    }
    let label = |label: &str| {
        let allowed = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        (1..=63).contains(&label.len()) && allowed && !label.starts_with('-') && !label.ends_with('-')
    };
    if !domain.split('.').all(label) {
        return Err(bad("each part between dots must be 1 to 63 letters, digits or inner dashes"));
    }
    Ok(domain)
}

/// Checks the further names of the admin address, which have the form of a domain.
pub(super) fn admin_names(names: &[String]) -> Result<Vec<String>, ConfigError> {
    names.iter().map(|name| domain_name(name).map_err(|error| ConfigError::AdminName(Box::new(error)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_valid_port() {
        for fine in ["127.0.0.1:0", "localhost:65535", "[::1]:8080"] {
            assert_eq!(written_address(fine).as_deref(), Ok(fine));
        }
        for (wrong, why) in [("127.0.0.1:99999", "65535"), ("h:-1", "65535"), ("here", "no port"), (":80", "no host")] {
            assert!(written_address(wrong).is_err_and(|reason| reason.contains(why)), "{wrong}");
        }
    }
}
