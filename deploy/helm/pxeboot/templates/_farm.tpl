{{/*
Make, for all templates once, `.Values._made`: `farm`, which the pods get, of the values' farm, of Kubefarm's values
(_kubefarm.tpl), and of what only the chart knows; and `imported`, what Kubefarm's values came to.
*/}}
{{- define "pxeboot.make" -}}
{{- if not (hasKey .Values "_made") -}}
{{- $farm := deepCopy .Values.farm -}}
{{- $imported := include "pxeboot.kubefarm" . | fromYaml -}}
{{- with get $imported "Error" }}{{ fail (printf "nodePools, tags, ltsp: %s" .) }}{{ end -}}

{{- $dhcp := get $farm "dhcp" | default dict -}}
{{- $subnets := get $dhcp "subnets" | default list -}}
{{- $known := dict -}}
{{- range $subnets }}{{ $_ := set $known (toString .subnet) true }}{{ end -}}
{{- range $imported.subnets -}}
{{- if not (hasKey $known .subnet) }}{{ $subnets = append $subnets . }}{{ end -}}
{{- end -}}
{{- with $subnets }}{{ $_ := set $dhcp "subnets" . }}{{ end -}}
{{- with $dhcp }}{{ $_ := set $farm "dhcp" . }}{{ end -}}

{{- $pools := concat (get $farm "pools" | default list) ($imported.pools | default list) -}}
{{- with $pools }}{{ $_ := set $farm "pools" . }}{{ end -}}
{{- range $key := list "tags" "node" -}}
{{- $both := mergeOverwrite (get $imported $key | default dict) (get $farm $key | default dict) -}}
{{- with $both }}{{ $_ := set $farm $key . }}{{ end -}}
{{- end -}}

{{- if not $farm.images -}}
{{- $images := dict -}}
{{- range $pools -}}
{{- with .image }}{{ $_ := set $images . (dict "path" (printf "%s/%s" (trimSuffix "/" $.Values.imageStore.path) .)) }}{{ end -}}
{{- end -}}
{{- with $images }}{{ $_ := set $farm "images" . }}{{ end -}}
{{- end -}}

{{- $clusters := get $farm "clusters" | default dict -}}
{{- $joined := list (get $dhcp "shared" | default "") -}}
{{- range $pools }}{{ $joined = append $joined (get . "cluster" | default "") }}{{ end -}}
{{- if and (has "here" $joined) (not (hasKey $clusters "here")) }}{{ $_ := set $clusters "here" dict }}{{ end -}}
{{- range $name, $secret := .Values.kubeconfigs -}}
{{- if not (hasKey $clusters $name) }}{{ fail (printf "kubeconfigs.%s: farm.clusters has no %s" $name $name) }}{{ end -}}
{{- $_ := set (get $clusters $name) "kubeconfig" (printf "/etc/pxeboot-kubeconfigs/%s/kubeconfig" $name) -}}
{{- end -}}
{{- range $name, $cluster := $clusters -}}
{{- $cluster = $cluster | default dict -}}
{{- if not (or (hasKey $cluster "command") (hasKey $cluster "namespace") (hasKey $cluster "kubeconfig")) -}}
{{- $cluster = set $cluster "namespace" $.Release.Namespace -}}
{{- end -}}
{{- $_ := set $clusters $name $cluster -}}
{{- end -}}
{{- with $clusters }}{{ $_ := set $farm "clusters" . }}{{ end -}}
{{- $_ := set .Values "_made" (dict "farm" $farm "imported" $imported) -}}
{{- end -}}
{{- end -}}

{{/* What must hold of a farm in a pod, beyond what `pxeboot check` finds. Takes (dict "root" . "farm" FARM). */}}
{{- define "pxeboot.check" -}}
{{- $farm := .farm -}}
{{- if not (dig "server" "interfaces" (list) $farm) -}}
{{- fail "farm.server.interfaces: say which interfaces of the node machines boot at, such as --set farm.server.interfaces={eth1}" -}}
{{- end -}}
{{- range $key := list "control" "controller" -}}
{{- if hasKey (get $farm "server" | default dict) $key -}}
{{- fail (printf "farm.server.%s: leave it out; the two containers of the pod meet at the usual place" $key) -}}
{{- end -}}
{{- end -}}
{{- if eq .root.Values.kind "DaemonSet" -}}
{{- range dig "dhcp" "subnets" (list) $farm -}}
{{- if and (or .pool .pools) (not (dig "dhcp" "shared" "" $farm)) -}}
{{- fail (printf "farm.dhcp.subnets: %s has a pool, and a DaemonSet is several servers, which would give an address of it twice: set farm.dhcp.shared to the cluster that keeps its leases (here), or kind: Deployment" .subnet) -}}
{{- end -}}
{{- end -}}
{{- if eq .root.Values.state.type "pvc" -}}
{{- fail "state.type: one claim cannot be the state of every server of a DaemonSet; take hostPath" -}}
{{- end -}}
{{- end -}}
{{- if and (eq .root.Values.imageStore.type "pvc") (not .root.Values.imageStore.existingClaim) -}}
{{- fail "imageStore.existingClaim: say which claim holds the node images" -}}
{{- end -}}
{{- $reached := include "pxeboot.web" $farm | fromYaml -}}
{{- if and .root.Values.metrics.enabled (or (not $reached.port) (eq $reached.loopback "true")) -}}
{{- fail "metrics.enabled: Prometheus reaches no page at the loopback interface: set farm.web.listen, such as [\"0.0.0.0:8067\"]" -}}
{{- end -}}
{{- end -}}

{{/* Where the kubelet asks for health: of the farm, the first of `web.listen`. Nothing where there is no page. */}}
{{- define "pxeboot.web" -}}
{{- $web := get . "web" | default dict -}}
{{- $listen := list "127.0.0.1:8067" -}}
{{- if hasKey $web "listen" }}{{ $listen = $web.listen | default list }}{{ end -}}
{{- with first $listen -}}
{{- $host := regexReplaceAll ":[0-9]+$" . "" | trimAll "[]" -}}
port: {{ regexFind "[0-9]+$" . }}
address: {{ regexReplaceAll ":[0-9]+$" . "" | quote }}
host: {{ get (dict "0.0.0.0" "127.0.0.1" "::" "::1") $host | default $host | quote }}
loopback: {{ or (hasPrefix "127." $host) (eq $host "::1") | quote }}
scheme: {{ ternary "HTTPS" "HTTP" (hasKey $web "tls") }}
{{- end -}}
{{- end -}}

{{/* Which clusters the pod's own service account is for: names, of a farm. */}}
{{- define "pxeboot.own" -}}
{{- range $name, $cluster := (get . "clusters") | default dict -}}
{{- if not (or $cluster.command $cluster.kubeconfig) }}
- {{ $name | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether a controller has anything to do for a farm: "true" or nothing. */}}
{{- define "pxeboot.controlled" -}}
{{- $found := "" -}}
{{- range $name, $cluster := (get . "clusters") | default dict }}{{ if not $cluster.command }}{{ $found = "true" }}{{ end }}{{ end -}}
{{- $found -}}
{{- end -}}

{{/* Whether the farm is kept in a Secret: "true" or nothing. Takes (dict "root" . "farm" FARM). */}}
{{- define "pxeboot.secret" -}}
{{- $mode := toString .root.Values.farmInSecret -}}
{{- if eq $mode "auto" -}}
{{- if dig "node" "root_password_hash" "" .farm }}true{{ end -}}
{{- range $name, $cluster := (get .farm "clusters") | default dict }}{{ if $cluster.command }}true{{ end }}{{ end -}}
{{- else if eq $mode "true" -}}
true
{{- end -}}
{{- end -}}

{{/* What the kubelet asks for: takes (dict "web" WEB "path" PATH). */}}
{{- define "pxeboot.get" -}}
httpGet: {host: {{ .web.host | quote }}, port: {{ .web.port }}, path: {{ .path }}, scheme: {{ .web.scheme }}}
{{- end -}}

{{/* The settings that a running server keeps until a restart, as JSON: pxeboot/reloading/fixed.py says which. */}}
{{- define "pxeboot.fixed" -}}
{{- $farm := .Values._made.farm -}}
{{- $fixed := .Files.Get "files/fixed.yaml" | fromYaml -}}
{{- $found := list -}}
{{- range $place := concat $fixed.values $fixed.sections -}}
{{- $value := $farm -}}
{{- range splitList "." $place -}}
{{- if kindIs "map" $value }}{{ $value = get $value . }}{{ else }}{{ $value = "" }}{{ end -}}
{{- end -}}
{{- if has $place $fixed.sections }}{{ $value = not (empty $value) }}{{ end -}}
{{- $found = append $found $value -}}
{{- end -}}
{{- with dig "dhcp" "shared" "" $farm }}{{ $found = append $found (get $farm.clusters .) }}{{ end -}}
{{- toJson $found -}}
{{- end -}}
