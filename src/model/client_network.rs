//! The network that a client counts as, wherever something is counted or shared out by client.

use std::net::{IpAddr, Ipv6Addr};

/// The address of a client's network: an IPv4 address is its own, an IPv6 address counts by its first 64 bits, for one
/// customer has all the others. An IPv4 address written as IPv6 is the IPv4 address.
#[must_use]
pub fn client_network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The network as counters and records name it: `192.0.2.1` or `2001:db8::/64`.
#[must_use]
pub fn client_network_name(client: IpAddr) -> String {
    match client_network(client) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(network) => format!("{network}/64"),
    }
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
}
