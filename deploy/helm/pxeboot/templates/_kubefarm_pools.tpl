{{/* Kubefarm's node pools: machines, ranges, and machines by the port of their switch. */}}

{{- define "pxeboot.kubefarm.pools" -}}
{{- $made := .made -}}
{{- $defaults := .root.Values.nodePoolDefaults -}}
{{- $cluster := $defaults.cluster -}}
{{- if and (hasKey .root.Values.tokenGenerator "enabled") (not .root.Values.tokenGenerator.enabled) }}{{ $cluster = "" }}{{ end -}}
{{- $state := dict "networks" (dict) "order" (list) "names" (dict) "addresses" (list) -}}
{{- $native := dig "dhcp" "subnets" (list) .root.Values.farm -}}
{{- range $native -}}
{{- $ends := splitList "/" .subnet -}}
{{- $size := 1 }}{{ range until (sub 32 (int (last $ends)) | int) }}{{ $size = mul $size 2 }}{{ end -}}
{{- $mask := list }}{{ range list 16777216 65536 256 1 }}{{ $mask = append $mask (mod (div (sub 4294967296 $size) .) 256) }}{{ end -}}
{{- $network := include "pxeboot.network" (dict "ip" (first $ends) "mask" (join "." $mask)) | fromJson -}}
{{- $_ := set $state.networks $network.name (set $network "ranges" list) -}}
{{- end -}}
{{- $ranges := list -}}
{{- range $index, $pool := .root.Values.nodePools -}}
{{- $at := printf "nodePools[%d]" $index -}}
{{- $name := printf "pool-%d" (add $index 1) -}}
{{- $nodes := list -}}
{{- range $n, $node := $pool.nodes -}}
{{- $nodes = append $nodes (include "pxeboot.kubefarm.node" (dict "node" $node "at" (printf "%s.nodes[%d]" $at $n) "state" $state "made" $made) | fromYaml) -}}
{{- end -}}
{{- range include "pxeboot.kubefarm.ports" (dict "pool" $pool "at" $at "state" $state "made" $made) | fromYamlArray }}{{ $nodes = append $nodes . }}{{ end -}}
{{- $of := dict "name" $name "image" $defaults.image -}}
{{- if ne $defaults.root "http" }}{{ $_ := set $of "root" $defaults.root }}{{ end -}}
{{- with $cluster }}{{ $_ := set $of "cluster" . }}{{ end -}}
{{- $tags := list -}}
{{- range $pool.tags -}}
{{- $tags = append $tags . -}}
{{- if ne . "all" }}{{ include "pxeboot.kubefarm.tag" (dict "made" $made "name" .) }}{{ end -}}
{{- end -}}
{{- with $tags }}{{ $_ := set $of "tags" . }}{{ end -}}
{{- with $nodes }}{{ $_ := set $of "nodes" . }}{{ end -}}
{{- $_ := set $made "pools" (append $made.pools $of) -}}
{{- with $pool.range -}}
{{- $range := include "pxeboot.kubefarm.range" (dict "text" . "at" (printf "%s.range" $at)) | fromJson -}}
{{- $ranges = append $ranges (set $range "pool" $name) -}}
{{- end -}}
{{- end -}}
{{- range $range := $ranges }}{{ if $range.mask -}}
{{- include "pxeboot.kubefarm.take" (dict "state" $state "range" $range) -}}
{{- end }}{{ end -}}
{{- range $range := $ranges }}{{ if not $range.mask -}}
{{- $home := include "pxeboot.kubefarm.home" (dict "state" $state "ip" $range.first) -}}
{{- if not $home -}}
{{- fail (printf "%s: it does not say its netmask: write %s,%s,255.255.255.0, or what is right, or give the network as one of farm.dhcp.subnets" $range.at $range.first (default $range.mode $range.last)) -}}
{{- end -}}
{{- include "pxeboot.kubefarm.take" (dict "state" $state "range" (set $range "home" $home)) -}}
{{- end }}{{ end -}}
{{- range $state.addresses -}}
{{- if not (include "pxeboot.kubefarm.home" (dict "state" $state "ip" .ip)) -}}
{{- fail (printf "%s: no range says the network of %s: give its pool a range such as %s,static,255.255.255.0, or the network as one of farm.dhcp.subnets" .at .ip .ip) -}}
{{- end -}}
{{- end -}}
{{- range $state.order }}{{ include "pxeboot.kubefarm.subnet" (dict "made" $made "network" (get $state.networks .)) }}{{ end -}}
{{- end -}}

{{/* One machine. */}}
{{- define "pxeboot.kubefarm.node" -}}
{{- $ip := include "pxeboot.text" .node.ip | trim -}}
{{- if not (include "pxeboot.number" $ip) -}}
{{- fail (printf "%s: a machine needs an address of its own: ip" .at) -}}
{{- end -}}
{{- $given := include "pxeboot.text" .node.name | trim -}}
{{- $name := include "pxeboot.host" $given | default (printf "host-%s" (replace "." "-" $ip)) -}}
{{- if and $given (ne $name (lower $given)) -}}
{{- $_ := set .made "renamed" (append .made.renamed (printf "%q is %s" $given $name)) -}}
{{- end -}}
{{- if hasKey .state.names $name -}}
{{- fail (printf "%s: there is already a machine named %s" .at $name) -}}
{{- end -}}
{{- $_ := set .state.names $name true -}}
{{- $_ := set .state "addresses" (append .state.addresses (dict "at" .at "ip" $ip)) -}}
{{- $made := dict "name" $name "ip" $ip -}}
{{- $macs := list -}}
{{- range regexSplit "[,\\s]+" (include "pxeboot.text" .node.mac) -1 }}{{ with trim . }}{{ $macs = append $macs . }}{{ end }}{{ end -}}
{{- with $macs }}{{ $_ := set $made "macs" . }}{{ end -}}
{{- $identifier := include "pxeboot.text" .node.clientID -}}
{{- if and $identifier (ne $identifier "*") }}{{ $_ := set $made "client_id" (trimPrefix "id:" $identifier) }}{{ end -}}
{{- if not (or $macs $made.client_id) -}}
{{- fail (printf "%s: a machine is known by its mac or its clientID: %s has none" .at $name) -}}
{{- end -}}
{{- with include "pxeboot.text" .node.leaseTime -}}
{{- $lease := include "pxeboot.lease" . -}}
{{- if not $lease }}{{ fail (printf "%s.leaseTime: %q is no time such as 12h, or infinite" $.at .) }}{{ end -}}
{{- $_ := set $made "dhcp" (dict "lease_s" $lease) -}}
{{- end -}}
{{- toYaml $made -}}
{{- end -}}

{{/* A range of dnsmasq, [tag:..,][set:..,]FIRST[,LAST|MODE][,NETMASK[,BROADCAST]][,LEASE], as JSON. */}}
{{- define "pxeboot.kubefarm.range" -}}
{{- $tags := list -}}
{{- $words := list -}}
{{- range splitList "," .text -}}
{{- $word := trim . -}}
{{- if and (not $words) (regexMatch "^(tag|set|net):" $word) -}}
{{- if hasPrefix "tag:" $word }}{{ $tags = append $tags (trimPrefix "tag:" $word) }}{{ end -}}
{{- else -}}
{{- $words = append $words $word -}}
{{- end -}}
{{- end -}}
{{- $addresses := list -}}
{{- $mode := "" -}}
{{- $lease := "" -}}
{{- range $i, $word := $words -}}
{{- if include "pxeboot.number" $word -}}
{{- if $lease }}{{ fail (printf "%s: nothing is known of %s behind a lease time" $.at $word) }}{{ end -}}
{{- $addresses = append $addresses $word -}}
{{- else if has $word (list "static" "proxy") -}}
{{- $mode = $word -}}
{{- else if and (gt $i 0) (include "pxeboot.lease" $word) -}}
{{- $lease = include "pxeboot.lease" $word -}}
{{- else -}}
{{- fail (printf "%s: %q is neither an IPv4 address nor a lease time; `pxeboot import kubefarm` says more" $.at $word) -}}
{{- end -}}
{{- end -}}
{{- if not $addresses }}{{ fail (printf "%s: it has no first address" .at) }}{{ end -}}
{{- $last := "" -}}
{{- $rest := rest $addresses -}}
{{- if and (not $mode) $rest }}{{ $last = first $rest }}{{ $rest = rest $rest }}{{ end -}}
{{- dict "at" .at "tags" $tags "first" (first $addresses) "last" $last "mode" $mode "mask" (first $rest | default "") "lease" $lease | toJson -}}
{{- end -}}

{{/* The name of the smallest known network that an address is in. */}}
{{- define "pxeboot.kubefarm.home" -}}
{{- $number := int64 (include "pxeboot.number" .ip) -}}
{{- $best := dict -}}
{{- range $name, $network := .state.networks -}}
{{- if and (le (int64 $network.first) $number) (le $number (int64 $network.last)) -}}
{{- if or (not $best) (gt (int64 $network.first) (int64 $best.first)) (lt (int64 $network.last) (int64 $best.last)) }}{{ $best = $network }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $best.name | default "" -}}
{{- end -}}

{{/* Add a range to its network. */}}
{{- define "pxeboot.kubefarm.take" -}}
{{- $state := .state -}}
{{- $name := .range.home | default "" -}}
{{- if not $name -}}
{{- $network := include "pxeboot.network" (dict "ip" .range.first "mask" .range.mask) | fromJson -}}
{{- if not $network.name }}{{ fail (printf "%s: %s is no netmask" .range.at .range.mask) }}{{ end -}}
{{- $name = $network.name -}}
{{- if not (hasKey $state.networks $name) }}{{ $_ := set $state.networks $name (set $network "ranges" list) }}{{ end -}}
{{- end -}}
{{- if not (has $name $state.order) }}{{ $_ := set $state "order" (append $state.order $name) }}{{ end -}}
{{- $network := get $state.networks $name -}}
{{- with .range.last -}}
{{- $low := int64 (include "pxeboot.number" $.range.first) -}}
{{- $high := int64 (include "pxeboot.number" .) -}}
{{- if or (gt $low $high) (le $low (int64 $network.first)) (ge $high (int64 $network.last)) -}}
{{- fail (printf "%s: machines of %s cannot have all of %s-%s" $.range.at $name $.range.first .) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $network "ranges" (append $network.ranges .range) -}}
{{- end -}}

{{/* One subnet of the farm, of its network and ranges. */}}
{{- define "pxeboot.kubefarm.subnet" -}}
{{- $subnet := dict "subnet" .network.name -}}
{{- $dynamic := list -}}
{{- $leases := list -}}
{{- $pools := list -}}
{{- range .network.ranges -}}
{{- if eq .mode "proxy" -}}
{{- $_ := set $subnet "proxy" true -}}
{{- else -}}
{{- if not .port }}{{ $leases = append $leases .lease }}{{ end -}}
{{- if .last }}{{ $dynamic = append $dynamic . }}{{ $pools = append $pools .pool }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $same := "" -}}
{{- if eq (len (uniq $leases)) 1 }}{{ $same = first $leases }}{{ end -}}
{{- if eq (len $dynamic) 1 -}}
{{- with first $dynamic -}}
{{- $_ := set $subnet "pool" (printf "%s-%s" .first .last) -}}
{{- $same = .lease | default $same -}}
{{- end -}}
{{- else if $dynamic -}}
{{- $listed := list -}}
{{- range $dynamic -}}
{{- $one := dict "range" (printf "%s-%s" .first .last) -}}
{{- if and .lease (ne .lease $same) }}{{ $_ := set $one "lease_s" .lease }}{{ end -}}
{{- $listed = append $listed $one -}}
{{- end -}}
{{- $_ := set $subnet "pools" $listed -}}
{{- end -}}
{{- if gt (len (uniq $pools)) 1 -}}
{{- include "pxeboot.kubefarm.left" (dict "made" .made "text" (printf "nodePools: strangers of %s belong to one pool, and that is %s" .network.name (first $pools))) -}}
{{- end -}}
{{- with $pools }}{{ $_ := set $subnet "unknown" (first .) }}{{ end -}}
{{- with $same }}{{ $_ := set $subnet "lease_s" . }}{{ end -}}
{{- $_ := set .made "subnets" (append .made.subnets $subnet) -}}
{{- end -}}

{{/* Machines by the port of their switch, out of dnsmasq's options (`extraOpts`), as a YAML list. */}}
{{- define "pxeboot.kubefarm.ports" -}}
{{- $ports := dict -}}
{{- $taken := dict -}}
{{- $nodes := list -}}
{{- range .pool.extraOpts }}{{ range $key, $value := . -}}
{{- if and (eq $key "dhcp-circuitid") (hasPrefix "set:" $value) -}}
{{- $parts := splitn "," 2 (trimPrefix "set:" $value) -}}
{{- $_ := set $ports $parts._0 $parts._1 -}}
{{- end -}}
{{- end }}{{ end -}}
{{- range $i, $one := .pool.extraOpts }}{{ range $key, $value := $one -}}
{{- $at := printf "%s.extraOpts[%d]" $.at $i -}}
{{- if eq $key "dhcp-range" -}}
{{- $range := include "pxeboot.kubefarm.range" (dict "text" $value "at" $at) | fromJson -}}
{{- $port := "" -}}
{{- range $range.tags }}{{ if and (not $port) (hasKey $ports .) }}{{ $port = . }}{{ end }}{{ end -}}
{{- if or (not $port) (and $range.last (ne $range.last $range.first)) -}}
{{- fail (printf "%s: only a range of one address, for one port of a switch, can be a machine here" $at) -}}
{{- end -}}
{{- with $range.mask }}{{ include "pxeboot.kubefarm.take" (dict "state" $.state "range" (dict "at" $at "first" $range.first "mask" . "port" true)) }}{{ end -}}
{{- $name := include "pxeboot.host" $port -}}
{{- if hasKey $.state.names $name }}{{ fail (printf "%s: there is already a machine named %s" $at $name) }}{{ end -}}
{{- $_ := set $.state.names $name true -}}
{{- $_ := set $taken $port true -}}
{{- $nodes = append $nodes (dict "name" $name "circuit_id" (get $ports $port) "ip" $range.first) -}}
{{- else if not (has $key (list "dhcp-circuitid" "dhcp-generate-names" "dhcp-ignore-names")) -}}
{{- include "pxeboot.kubefarm.left" (dict "made" $.made "text" (printf "%s: %s=%s: there are no rules of tags here" $at $key $value)) -}}
{{- end -}}
{{- end }}{{ end -}}
{{- range $port, $identifier := $ports -}}
{{- if not (hasKey $taken $port) -}}
{{- include "pxeboot.kubefarm.left" (dict "made" $.made "text" (printf "%s.extraOpts: no range of one address is for the port %s" $.at $identifier)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $nodes -}}
{{- end -}}
