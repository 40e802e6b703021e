//! Whether the kernel does IPv6 at all, and its switches. Addresses and routes, which a kernel that does may still lack,
//! are other topics.

use socket2::{Domain, Socket, Type};

use super::host::{Host, switch};
use super::report::Report;

/// Whether sockets of the family can be made, and what the switches say.
struct Kernel<'a> {
    socket: Result<(), String>,
    has_addresses: bool,
    /// `disable_ipv6`, by what it is for.
    disabled: Vec<&'a str>,
    bindv6only: Option<String>,
}

pub(super) fn examine(host: &Host) -> Report {
    let devices: Vec<_> = ["all", "default", "lo"]
        .into_iter()
        .chain(host.default_v4.as_ref().map(|route| route.device.as_str()))
        .collect();
    let disabled = devices
        .into_iter()
        .filter(|name| {
            let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            switch(&path).as_deref() == Some("1")
        })
        .collect();
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None);
    judge(&Kernel {
        socket: socket.map(drop).map_err(|error| error.to_string()),
        has_addresses: !host.has_proc || !host.v6.is_empty(),
        disabled,
        bindv6only: switch("/proc/sys/net/ipv6/bindv6only"),
    })
}

fn judge(kernel: &Kernel<'_>) -> Report {
    let mut report = Report::new("kernel");
    if let Err(error) = &kernel.socket {
        report.warn(
            format!("this system has no IPv6 ({error}): carom listens and dials over IPv4 alone"),
            "take ipv6.disable=1 off the kernel's command line, and AF_INET6 into RestrictAddressFamilies= of the service",
        );
        return report;
    }
    if kernel.disabled.is_empty() {
        if kernel.has_addresses {
            report.info("IPv6 is on");
        } else {
            let remedy = "look at `sysctl -a | grep disable_ipv6` and `ip -6 address`";
            report.warn(
                "no interface has an IPv6 address, not even loopback",
                remedy,
            );
        }
    }
    for name in &kernel.disabled {
        let message = format!("IPv6 is off for {name} (net.ipv6.conf.{name}.disable_ipv6 = 1)");
        let remedy = format!(
            "sysctl -w net.ipv6.conf.{name}.disable_ipv6=0, and look for it in /etc/sysctl.d"
        );
        report.warn(message, remedy);
    }
    match kernel.bindv6only.as_deref() {
        Some("1") => report.info(
            "net.ipv6.bindv6only = 1: no matter to carom; other programs need a second socket for IPv4",
        ),
        Some(value) => report.info(format!(
            "net.ipv6.bindv6only = {value}: no matter to carom; other programs get both families on one socket"
        )),
        None => {}
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Kernel<'static> {
        Kernel {
            socket: Ok(()),
            has_addresses: true,
            disabled: Vec::new(),
            bindv6only: Some("0".into()),
        }
    }

    #[test]
    fn a_good_kernel_has_no_warnings() {
        let text = judge(&good()).text();
        assert!(text.starts_with("info: kernel: IPv6 is on\n"), "{text}");
        assert!(!text.contains("warning"), "{text}");
    }

    #[test]
    fn bindv6only_is_told_and_harmless() {
        let kernel = Kernel {
            bindv6only: Some("1".into()),
            ..good()
        };
        let text = judge(&kernel).text();
        assert!(text.contains("info: kernel: net.ipv6.bindv6only = 1: no matter to carom"));
    }

    #[test]
    fn what_is_off_is_named_with_its_switch() {
        let kernel = Kernel {
            disabled: vec!["all", "eth0"],
            has_addresses: false,
            ..good()
        };
        let text = judge(&kernel).text();
        assert!(
            text.contains("net.ipv6.conf.all.disable_ipv6 = 1"),
            "{text}"
        );
        assert!(text.contains("sysctl -w net.ipv6.conf.eth0.disable_ipv6=0"));
    }

    #[test]
    fn without_the_family_there_is_one_warning() {
        let kernel = Kernel {
            socket: Err("address family not supported".into()),
            ..good()
        };
        let text = judge(&kernel).text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("warning: kernel: this system has no IPv6"));
    }
}
