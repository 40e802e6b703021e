#!/bin/sh
# A firewall for a host that runs carom, for those who use iptables: there the rules of IPv4 (iptables) and of IPv6
# (ip6tables) are two separate sets, and a port that is open in one is closed in the other until somebody says so twice.
# The function both() says every word to both, so that the two stay in step. Only what differs is said to one of them: ICMP,
# which is another protocol with other types in each; DHCPv6; the guard against mapped addresses on the wire; and protocol
# 41, the 6in4 tunnel, which is IPv4 outside.
#
# Use:      both-tables.sh                     replaces the rules of the chains INPUT, FORWARD and OUTPUT of both families
#           SSH=22 IRC=6697 IDENT=reject TUNNEL=192.0.2.1 both-tables.sh
#           SSH     port of ssh ("" for none)              IRC     port of carom's clients
#           IDENT   reject (default) | accept | drop       TUNNEL  IPv4 address of the far end of a 6in4 tunnel ("" for none)
#           DRY=1   prints the commands and changes nothing
#           Keep a second session open, so that you cannot lock yourself out. To keep the rules over a reboot:
#           iptables-save > /etc/iptables/rules.v4; ip6tables-save > /etc/iptables/rules.v6
# Undo:     for t in iptables ip6tables; do for c in INPUT FORWARD; do $t -P $c ACCEPT; done; $t -F; done
# Tested:   tests/netns.rs runs it in a network namespace and sends packets of both families through it.

set -eu

SSH=${SSH-22}
IRC=${IRC-6697}
IDENT=${IDENT-reject}
TUNNEL=${TUNNEL-}

run() {
	if [ -n "${DRY-}" ]; then echo "$@"; else "$@"; fi
}

v4() { run iptables -w "$@"; }
v6() { run ip6tables -w "$@"; }
both() { v4 "$@"; v6 "$@"; }

# While the rules are built nothing is open but what is established.
both -P INPUT DROP
both -P FORWARD DROP
both -P OUTPUT ACCEPT
both -F INPUT
both -F FORWARD
both -F OUTPUT

both -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
both -A INPUT -i lo -j ACCEPT

# Nobody outside may claim to be a mapped address (RFC 4291, 2.5.5.2: never on the wire).
v6 -A INPUT -s ::ffff:0:0/96 -j DROP

# IPv4: errors (3: fragmentation needed is one of them) and echo.
for type in 3 11 12; do
	v4 -A INPUT -p icmp --icmp-type $type -j ACCEPT
done
v4 -A INPUT -p icmp --icmp-type echo-request -m limit --limit 10/second -j ACCEPT

# IPv6: errors (2 is packet-too-big: without it the path MTU is not found) and echo; neighbour discovery (133 to 136), which
# comes from the link itself; multicast listeners. Without these IPv6 does not work at all, unlike IPv4 without ICMP.
for type in 1 2 3 4; do
	v6 -A INPUT -p icmpv6 --icmpv6-type $type -j ACCEPT
done
v6 -A INPUT -p icmpv6 --icmpv6-type echo-request -m limit --limit 10/second -j ACCEPT
for type in 133 134 135 136; do
	v6 -A INPUT -p icmpv6 --icmpv6-type $type -m hl --hl-eq 255 -j ACCEPT
done
for type in 130 131 132 143; do
	v6 -A INPUT -p icmpv6 --icmpv6-type $type -j ACCEPT
done

# IPv6: addresses by DHCPv6 come to this port from the link itself; IPv4's DHCP is not seen by these rules.
v6 -A INPUT -p udp -s fe80::/10 --dport 546 -j ACCEPT

# Tracking takes these for strangers in no state; after ICMP, because neighbour discovery is never tracked.
both -A INPUT -m conntrack --ctstate INVALID -j DROP

# IPv6 in IPv4 is protocol 41, which has no ports: in from the far end of the tunnel, out to it, and nowhere else.
if [ -n "$TUNNEL" ]; then
	v4 -A INPUT -p 41 -s "$TUNNEL" -j ACCEPT
	v4 -A OUTPUT -p 41 ! -d "$TUNNEL" -j DROP
fi

for port in $SSH $IRC; do
	both -A INPUT -p tcp --dport "$port" -j ACCEPT
done

# IRC servers may ask the ident port who you are. Refused at once, a login goes on at once; dropped, it waits.
case $IDENT in
accept) both -A INPUT -p tcp --dport 113 -j ACCEPT ;;
reject) both -A INPUT -p tcp --dport 113 -j REJECT --reject-with tcp-reset ;;
drop) ;;
*)
	echo "IDENT is \"$IDENT\": write accept, reject or drop" >&2
	exit 64
	;;
esac
