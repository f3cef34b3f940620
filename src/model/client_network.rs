//! The network under which a client is counted, for rate limits and shared capacity.

use std::net::{IpAddr, Ipv6Addr};

/// Returns the address of a client's network: for IPv4 the address itself, for IPv6 its first 64 bits, since one
/// customer has all the others. An IPv4-mapped IPv6 address counts as the IPv4 address.
#[must_use]
pub fn client_network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Returns the network's name for counters and records: `192.0.2.1` or `2001:db8::/64`.
#[must_use]
pub fn client_network_name(client: IpAddr) -> String {
    match client_network(client) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(network) => format!("{network}/64"),
    }
}

/// Returns the wider networks that contain an IPv6 client network, each with the number of client networks it counts
/// as. Providers assign a customer a /64 to a /48, and have a /32 or more themselves.
pub fn wider_networks(network: &str) -> impl Iterator<Item = (String, u32)> {
    let address: Option<Ipv6Addr> = network
        .strip_suffix("/64")
        .and_then(|address| address.parse().ok());
    let wider = move |(bits, times): (u32, u32)| {
        let masked = address?.to_bits() & (u128::MAX << (128 - bits));
        Some((format!("{}/{bits}", Ipv6Addr::from_bits(masked)), times))
    };
    [(56, 2), (48, 5), (32, 20)].into_iter().filter_map(wider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_network_is_one_ipv4_address_or_64_bits_of_ipv6() {
        let cases = [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("::1", "::/64"),
        ];
        for (address, network) in cases {
            assert_eq!(
                client_network_name(address.parse().unwrap()),
                network,
                "{address}"
            );
        }
    }

    #[test]
    fn a_client_network_of_ipv6_is_in_wider_ones() {
        let wider: Vec<_> = wider_networks("2001:db8:12:3456::/64").collect();
        let expected = [
            ("2001:db8:12:3400::/56".to_owned(), 2),
            ("2001:db8:12::/48".to_owned(), 5),
            ("2001:db8::/32".to_owned(), 20),
        ];
        assert_eq!(wider, expected);
        for alone in ["192.0.2.7", "", "nonsense/64"] {
            assert_eq!(wider_networks(alone).count(), 0, "{alone}");
        }
    }
}
