#!/usr/bin/perl -w
# nbd-keeper.pl INDEX HOST PORT EXPORT: connect /dev/nbdINDEX, and keep it connected for as long as the machine runs.
# Ends only if it cannot connect at first, with 1. What it says is for /dev/kmsg.
#
# nbd-client hands a connection to the kernel and ends. When that breaks, the kernel answers every read with an error,
# and a machine whose root it is has lost it. The kernel can also wait, and take a new connection in place of a dead
# one (NBD_ATTR_DEAD_CONN_TIMEOUT and NBD_CMD_RECONFIGURE of linux/nbd-netlink.h); this script brings it. What was
# asked and not yet answered is then asked again.
#
# It runs from the memory of the initramfs, because the device that does not answer is its machine's root: once started
# it reads no file, loads no module of Perl and starts no program. Its name begins with '@', so that systemd does not
# end it before the root is let go of (systemd's ROOT_STORAGE_DAEMONS). SIGUSR1 has it disconnect and end; the machine
# is then without its root.

my ($index, $host, $port, $export) = @ARGV;

# Without an answer for so long, a connection counts as dead, because a server that lost its power closes none. A request
# that was lost with its connection is sent again no sooner. What is written may have to wait for a disk.
my ($READ_S, $WRITE_S) = (5, 15);
my $WAIT_S = 7 * 86400;  # so long the kernel waits for another connection, before reading becomes an error
my $PATIENCE_S = 5;      # for each step of a handshake
my $LOOK_S = 10;         # between two looks at the connection, should the kernel's word of its end have been lost

# linux/netlink.h, linux/genetlink.h, linux/nbd-netlink.h
my ($NETLINK, $GENERIC, $SOL_NETLINK, $ADD_MEMBERSHIP) = (16, 16, 270, 1);
my ($ERROR, $CONTROLLER, $GETFAMILY, $FAMILY_ID, $FAMILY_NAME, $GROUPS, $GROUP_ID) = (2, 16, 3, 1, 2, 7, 2);
my ($CONNECT, $DISCONNECT, $RECONFIGURE, $LINK_DEAD) = (1, 2, 3, 4);
my ($INDEX, $SIZE, $BLOCK_SIZE, $TIMEOUT, $SERVER_FLAGS, $SOCKETS, $DEAD_CONN_TIMEOUT) = (1, 2, 3, 4, 5, 7, 8);
# The NBD protocol
my ($OPTION_MAGIC, $REPLY_MAGIC, $GO, $ACK, $INFO, $INFO_EXPORT) = ('IHAVEOPT', 0x3e889 << 32 | 0x045565a9, 7, 1, 3, 0);
my ($BOTH_FLAGS, $IS_ERROR, $READ_ONLY) = (3, 1 << 31, 2);

my ($netlink, $events, $family, $connection, $size, $sequence, $let_go) = (undef, undef, undef, undef, 0, 0, 0);

# Say it on the console too, even of a machine that was started with "quiet": it hangs, and somebody may stand there.
# The kernel takes no line of more than 1 KiB.
sub cry {
	syswrite STDOUT, "<3>pxeboot: nbd$index: " . substr("@_" =~ tr/\n/ /r =~ s/ +$//r, 0, 300) . "\n";
}

# Why a socket failed. For one whose patience has ended the system has other words: EAGAIN, EINPROGRESS.
sub why {
	return $! == 11 || $! == 115 ? "no answer within $PATIENCE_S s" : "$!";
}

sub attribute {
	my ($type, $value) = @_;
	return pack('S S', 4 + length $value, $type) . $value . "\0" x (-length($value) & 3);
}

# Type => value of each attribute in a text.
sub attributes {
	my ($text) = @_;
	my %found;
	while (length $text >= 4) {
		my ($length, $type) = unpack 'S S', $text;
		last if $length < 4;
		$found{$type & 0x3fff} = substr $text, 4, $length - 4;
		$text = $length < length $text ? substr $text, $length + 3 & ~3 : '';
	}
	return %found;
}

# Ask the kernel; return the attributes of its answer. Dies with its error.
sub request {
	my ($family, $command, $attributes) = @_;
	my $body = pack('C C S', $command, 1, 0) . $attributes;
	defined send $netlink, pack('L S S L L', 16 + length $body, $family, 5, ++$sequence, 0) . $body, 0 or die "netlink: $!\n";
	my %answer;
	while (1) {
		defined recv $netlink, my $text, 65536, 0 or next;
		while (length $text >= 16) {
			my ($length, $type) = unpack 'L S', $text;
			if ($type == $ERROR) {
				$! = -unpack 'l', substr $text, 16;
				$! == 0 or die "the kernel says: $!\n";
				return %answer;
			}
			%answer = attributes(substr $text, 20, $length - 20);
			$text = $length < length $text ? substr $text, $length + 3 & ~3 : '';
		}
	}
}

sub open_netlink {
	socket my $socket, $NETLINK, 3, $GENERIC or die "no netlink: $!\n";
	bind $socket, pack 'S S L L', $NETLINK, 0, 0, 0 or die "no netlink: $!\n";
	return $socket;
}

# Find the kernel's NBD, and listen to what it tells of dead connections.
sub meet_the_kernel {
	$netlink = open_netlink();
	my %nbd = request($CONTROLLER, $GETFAMILY, attribute($FAMILY_NAME, "nbd\0"));
	$family = unpack 'S', $nbd{$FAMILY_ID};
	my %groups = attributes($nbd{$GROUPS});
	$events = open_netlink();
	for my $group (values %groups) {
		my %group = attributes($group);
		setsockopt $events, $SOL_NETLINK, $ADD_MEMBERSHIP, $group{$GROUP_ID} or die "no events: $!\n";
	}
}

# How long a socket waits to be connected, and for what it reads and writes; 0 is for ever.
sub patience {
	my ($socket, $seconds) = @_;
	setsockopt $socket, 1, $_, pack 'q q', $seconds, 0 for 20, 21;  # SO_RCVTIMEO, SO_SNDTIMEO
}

sub receive {
	my ($socket, $count) = @_;
	my $all = '';
	while (length $all < $count) {
		defined recv $socket, my $part, $count - length $all, 0 or die "$host: " . why() . "\n";
		length $part or die "$host: the server hung up\n";
		$all .= $part;
	}
	return $all;
}

# Connect and open the export; return the socket, the size in bytes, and the transmission flags. Dies with why not.
sub dial {
	socket my $socket, 2, 1, 6 or die "no socket: $!\n";
	patience($socket, $PATIENCE_S);
	setsockopt $socket, 6, 1, 1;  # TCP_NODELAY
	setsockopt $socket, 1, 9, 1;  # SO_KEEPALIVE
	connect $socket, pack 'S n C4 x8', 2, $port, split /\./, $host or die "$host: " . why() . "\n";
	substr(receive($socket, 18), 8, 8) eq $OPTION_MAGIC or die "$host: no NBD server of today\n";
	my $what = pack 'N/a* n', $export, 0;
	send $socket, pack('N a8 N N', $BOTH_FLAGS, $OPTION_MAGIC, $GO, length $what) . $what, 0 or die "$host: " . why() . "\n";
	my ($size, $flags) = (0, 0);
	while (1) {
		my ($magic, undef, $type, $length) = unpack 'Q> N N N', receive($socket, 20);
		$magic == $REPLY_MAGIC && $length < 65536 or die "$host: no sense in its answer\n";
		my $data = receive($socket, $length);
		$type & $IS_ERROR and die "$host refuses $export: " . ($data || $type & ~$IS_ERROR) . "\n";
		last if $type == $ACK;
		my ($kind, @export) = unpack 'n Q> n', $data;
		($size, $flags) = @export if $type == $INFO && $kind == $INFO_EXPORT;
	}
	patience($socket, 0);
	return ($socket, $size, $flags);
}

sub socket_attribute {
	my ($socket) = @_;
	return attribute($SOCKETS, attribute(1, attribute(1, pack 'L', fileno $socket)));
}

sub attach {
	my ($socket, $bytes, $flags) = dial();
	request($family, $CONNECT, attribute($INDEX, pack 'L', $index)
		. attribute($SIZE, pack 'Q', $bytes)
		. attribute($BLOCK_SIZE, pack 'Q', 512)
		. attribute($SERVER_FLAGS, pack 'Q', $flags)
		. attribute($TIMEOUT, pack 'Q', $flags & $READ_ONLY ? $READ_S : $WRITE_S)
		. attribute($DEAD_CONN_TIMEOUT, pack 'Q', $WAIT_S)
		. socket_attribute($socket));
	($connection, $size) = ($socket, $bytes);
}

sub reattach {
	my ($socket, $bytes) = dial();
	$bytes == $size or die "$export has $bytes bytes now and had $size\n";
	request($family, $RECONFIGURE, attribute($INDEX, pack 'L', $index) . socket_attribute($socket));
	$connection = $socket;
}

# Whether the connection that the kernel was last given is established. The kernel shuts down a dead one.
sub alive {
	return ord(getsockopt($connection, 6, 11) // "\0") == 1;  # TCP_INFO
}

# Wait until the kernel tells of a dead connection, or it is time to look.
sub wait_for_the_end {
	my $readable = '';
	vec($readable, fileno $events, 1) = 1;
	if (select($readable, undef, undef, $LOOK_S) > 0) {
		recv $events, my $text, 65536, 0;
		select undef, undef, undef, 0.05;  # it is told a moment before it is so
	} elsif (!alive()) {
		select undef, undef, undef, 1;
	}
}

sub keep {
	until ($let_go) {
		wait_for_the_end();
		next if $let_go || alive();
		my ($since, $said, $tries) = (time, '', 0);
		cry("the connection to $host is lost; the root waits");
		until (eval { reattach(); 1 }) {
			cry($@) if $@ ne $said;
			$said = $@;
			select undef, undef, undef, ($tries++ < 60 ? 0.5 : 4) + rand;
			last if $let_go;
		}
		cry('connected again after ' . (time - $since) . ' s') unless $let_go;
	}
	request($family, $DISCONNECT, attribute($INDEX, pack 'L', $index));
}

$SIG{$_} = 'IGNORE' for 'HUP', 'INT', 'QUIT', 'TERM', 'PIPE';
$SIG{USR1} = sub { $let_go = 1 };
eval { meet_the_kernel(); attach(); 1 } or do {
	cry($@);
	exit 1;
};
$0 = '@pxeboot-nbd';  # and so our parent knows
keep();
