{{/*
What Kubefarm's values come to: `nodePools`, `tags`, and of `ltsp` its `config`. YAML: subnets, pools, tags and node as
in a farm, `left`, a line for each thing that is not in them, and `renamed`.

It gives what `pxeboot import kubefarm` gives for the same values (pxeboot/imports/kubefarm.py; a test holds the two
together), with one difference: where that guesses a network, or leaves a machine out, this fails, and says so.
*/}}
{{- define "pxeboot.kubefarm" -}}
{{- $made := dict "subnets" (list) "pools" (list) "tags" (dict) "node" (dict) "files" (dict) "left" (list) "renamed" (list) -}}
{{- include "pxeboot.kubefarm.tags" (dict "root" . "made" $made) -}}
{{- include "pxeboot.kubefarm.config" (dict "root" . "made" $made) -}}
{{- include "pxeboot.kubefarm.pools" (dict "root" . "made" $made) -}}
{{- with $made.files }}{{ $_ := set $made.node "files" . }}{{ end -}}
{{- omit $made "files" | toYaml -}}
{{- end -}}

{{/* The tag NAME of (dict "made" MADE "name" NAME), made if it is not there. Nothing is printed. */}}
{{- define "pxeboot.kubefarm.tag" -}}
{{- if not (hasKey .made.tags .name) }}{{ $_ := set .made.tags .name dict }}{{ end -}}
{{- end -}}

{{- define "pxeboot.kubefarm.left" -}}
{{- $_ := set .made "left" (append .made.left .text) -}}
{{- end -}}

{{- define "pxeboot.kubefarm.tags" -}}
{{- $made := .made -}}
{{- range $part := list "dhcpOptions" "ltspOptions" "kubernetesLabels" "kubernetesTaints" -}}
{{- range $name, $entries := (get $.root.Values.tags $part) | default dict -}}
{{- include "pxeboot.kubefarm.tag" (dict "made" $made "name" $name) -}}
{{- $tag := get $made.tags $name -}}
{{- if eq $part "kubernetesTaints" -}}
{{- $taints := list -}}
{{- range $entries }}{{ $taints = append $taints (set (deepCopy .) "value" (include "pxeboot.text" .value)) }}{{ end -}}
{{- with $taints }}{{ $_ := set $tag "taints" . }}{{ end -}}
{{- else -}}
{{- range $key, $value := $entries -}}
{{- $text := include "pxeboot.text" $value -}}
{{- $where := dict "root" $.root "made" $made "name" $name "tag" $tag "key" $key "text" $text -}}
{{- if eq $part "dhcpOptions" -}}
{{- if not (kindIs "invalid" $value) }}{{ include "pxeboot.kubefarm.dhcp" $where }}{{ end -}}
{{- else if eq $part "ltspOptions" -}}
{{- include "pxeboot.kubefarm.option" $where -}}
{{- else -}}
{{- $_ := set $tag "labels" (set (get $tag "labels" | default dict) $key $text) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A DHCP option by dnsmasq's name of it, or its number; several values stand between commas. */}}
{{- define "pxeboot.kubefarm.dhcp" -}}
{{- $table := .root.Files.Get "files/dhcp-options.yaml" | fromYaml -}}
{{- $dhcp := get .tag "dhcp" | default dict -}}
{{- $_ := set .tag "dhcp" $dhcp -}}
{{- $values := list -}}
{{- range splitList "," .text }}{{ with trim . }}{{ $values = append $values . }}{{ end }}{{ end -}}
{{- $word := lower .key | replace "_" "-" | trimPrefix "option-" | trimPrefix "option:" -}}
{{- $code := get $table.names $word | default $word | toString -}}
{{- $row := get $table.options $code | default dict -}}
{{- if not (regexMatch "^[1-9][0-9]{0,2}$" $code) -}}
{{- include "pxeboot.kubefarm.left" (dict "made" .made "text" (printf "tags.dhcpOptions.%s.%s: there is no such DHCP option" .name .key)) -}}
{{- else if eq ($row.form | default "") "routes" -}}
{{- $routes := list -}}
{{- range $i := untilStep 0 (sub (len $values) 1 | int) 2 -}}
{{- $routes = append $routes (dict "to" (index $values $i) "via" (index $values (add $i 1))) -}}
{{- end -}}
{{- $_ := set $dhcp $row.key $routes -}}
{{- else if $row.key -}}
{{- if eq $row.form "list" }}{{ $_ := set $dhcp $row.key $values }}{{ else }}{{ $_ := set $dhcp $row.key (join "," $values) }}{{ end -}}
{{- else -}}
{{- $options := get $dhcp "options" | default dict -}}
{{- $_ := set $dhcp "options" $options -}}
{{- $form := $row.form | default "binary" -}}
{{- if not $values -}}
{{- $_ := set $options $code "" -}}
{{- else if eq $form "list" -}}
{{- $_ := set $options $row.name $values -}}
{{- else if eq $form "text" -}}
{{- $_ := set $options $row.name (join "," $values) -}}
{{- else -}}
{{- $_ := set $options $code (include "pxeboot.kubefarm.untyped" $values | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A value of an option without a type, which then says its type itself: as dnsmasq guesses it. */}}
{{- define "pxeboot.kubefarm.untyped" -}}
{{- $addresses := true -}}
{{- range . }}{{ if not (include "pxeboot.number" .) }}{{ $addresses = false }}{{ end }}{{ end -}}
{{- $text := join "," . -}}
{{- if $addresses -}}
{{- dict "ip" . | toYaml -}}
{{- else if regexMatch "^(0|[1-9][0-9]{0,8})$" $text -}}
{{- $number := int64 $text -}}
{{- dict (ternary "uint8" (ternary "uint16" "uint32" (lt $number 65536)) (lt $number 256)) $text | toYaml -}}
{{- else if regexMatch "^([0-9a-fA-F]{1,2}([: ][0-9a-fA-F]{1,2})+|0x([0-9a-fA-F]{2})+)$" $text -}}
{{- $pairs := list -}}
{{- range regexSplit "[: ]+" (trimPrefix "0x" $text) -1 }}{{ $pairs = append $pairs (ternary (printf "0%s" .) . (eq (len .) 1)) }}{{ end -}}
{{- dict "hex" (join ":" $pairs) | toYaml -}}
{{- else -}}
{{- dict "text" $text | toYaml -}}
{{- end -}}
{{- end -}}

{{/* An option of LTSP's ltsp.conf: a key of lts.conf, words for the kernel, or nothing. */}}
{{- define "pxeboot.kubefarm.option" -}}
{{- $value := trim .text -}}
{{- $key := .key -}}
{{- $whole := dict "KEEP_SYSTEM_SERVICES" "KEEP_SYSTEM_SERVICES" "RM_SYSTEM_SERVICES" "RM_SYSTEM_SERVICES" "DISABLE_SYSTEM_SERVICES" "RM_SYSTEM_SERVICES" "MASK_SYSTEM_SERVICES" "RM_SYSTEM_SERVICES" -}}
{{- $needless := list "OMIT_FUNCTIONS" "MENU_TIMEOUT" "LOCAL_SWAP" "NAT" "IMAGE_TO_RAM" "LTSP_NBD_TO_RAM" "POST_INIT_HOSTS" -}}
{{- $says := printf "%s.%s" .name $key -}}
{{- if regexMatch "[\r\n]" $value -}}
{{- include "pxeboot.kubefarm.left" (dict "made" .made "text" (printf "%s: a value is one line here; put the lines into a file of node.files, and run that" $says)) -}}
{{- else if eq $key "KERNEL_PARAMETERS" -}}
{{- $words := get .tag "kernel_parameters" | default list -}}
{{- range regexSplit "\\s+" $value -1 }}{{ with . }}{{ $words = append $words . }}{{ end }}{{ end -}}
{{- $_ := set .tag "kernel_parameters" $words -}}
{{- else if eq $key "DEBUG_SHELL" -}}
{{- if not (has (lower $value) (list "" "0" "false" "no")) -}}
{{- $_ := set .tag "kernel_parameters" (append (get .tag "kernel_parameters" | default list) "systemd.debug-shell=1") -}}
{{- end -}}
{{- else if not (has $key $needless) -}}
{{- $lts := get .tag "lts" | default dict -}}
{{- $to := get $whole $key | default $key -}}
{{- $command := false -}}
{{- range $pair := list (list "PRE_INIT_" "INIT_COMMAND_") (list "POST_INIT_" "PREINIT_") (list "PRE_SERVICE_" "RCFILE_") (list "POST_SERVICE_" "RCFILE_") -}}
{{- if hasPrefix (first $pair) $key -}}
{{- $to = printf "%s%s" (last $pair) (trimPrefix (first $pair) $key) -}}
{{- $command = true -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "^(HOSTNAME|INCLUDE|SERVER|DNS_SERVER|SEARCH_DOMAIN|PASSWORDS_|DEBUG_LOG)" $to -}}
{{- include "pxeboot.kubefarm.left" (dict "made" .made "text" (printf "%s: `pxeboot import kubefarm` says what there is instead" $says)) -}}
{{- else if not (regexMatch "^[A-Z][A-Z0-9_]*$" $to) -}}
{{- include "pxeboot.kubefarm.left" (dict "made" .made "text" (printf "%s: a key is capital letters, digits and underscores here" $says)) -}}
{{- else -}}
{{- if and $command (regexMatch "/etc/ltsp/|\\$\\{?(IP_ADDRESS|MAC_ADDRESS|IPCONFIG_[A-Z0-9]+)\\b" $value) -}}
{{- $value = printf ". /etc/ltsp/pxeboot-variables.sh; %s" $value -}}
{{- include "pxeboot.kubefarm.variables" . -}}
{{- else if and (eq $to "RM_SYSTEM_SERVICES") (hasKey $lts $to) -}}
{{- $value = printf "%s %s" (get $lts $to) $value -}}
{{- end -}}
{{- $_ := set .tag "lts" (set $lts $to $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The script that has LTSP's variables, for scripts that came along. */}}
{{- define "pxeboot.kubefarm.variables" -}}
{{- $_ := set .made.files "/etc/ltsp/pxeboot-variables.sh" (dict "content" (.root.Files.Get "files/ltsp-variables.sh")) -}}
{{- end -}}

{{- define "pxeboot.kubefarm.config" -}}
{{- $made := .made -}}
{{- $config := get .root.Values.ltsp "config" | default dict -}}
{{- range $from, $to := dict "timezone" "timezone" "rootPasswd" "root_password_hash" "sshAuthorizedKeys" "ssh_authorized_keys" "modules" "modules" -}}
{{- with get $config $from }}{{ $_ := set $made.node $to . }}{{ end -}}
{{- end -}}
{{- $sysctls := dict -}}
{{- range $key, $value := (get $config "sysctls") | default dict }}{{ $_ := set $sysctls $key (include "pxeboot.text" $value) }}{{ end -}}
{{- with $sysctls }}{{ $_ := set $made.node "sysctls" . }}{{ end -}}
{{- with get $config "dockerConfig" -}}
{{- $_ := set $made.files "/etc/docker/daemon.json" (dict "content" (printf "%s\n" (toPrettyJson .))) -}}
{{- end -}}
{{- range $name, $content := (get $config "extraFiles") | default dict -}}
{{- $_ := set $made.files (ternary $name (printf "/etc/ltsp/%s" $name) (hasSuffix ".service" $name)) (dict "content" $content) -}}
{{- end -}}
{{- range $name, $script := (get $config "sections") | default dict -}}
{{- if eq $name "init/" -}}
{{- $content := printf "#!/bin/sh\n. /etc/ltsp/pxeboot-variables.sh\n%s" $script -}}
{{- $_ := set $made.files "/etc/ltsp/pxeboot-init.sh" (dict "content" $content "mode" "0755") -}}
{{- include "pxeboot.kubefarm.variables" $ -}}
{{- include "pxeboot.kubefarm.lts" (dict "made" $made "key" "INIT_COMMAND_50_LTSP_INIT" "text" "/etc/ltsp/pxeboot-init.sh") -}}
{{- else if $script -}}
{{- include "pxeboot.kubefarm.left" (dict "made" $made "text" (printf "ltsp.config.sections [%s]: no part of LTSP runs here; what it does may fit into an INIT_COMMAND_ of a tag's `lts`" $name)) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey $config "disableAutoupdate") (not $config.disableAutoupdate) -}}
{{- include "pxeboot.kubefarm.lts" (dict "made" $made "key" "KEEP_SYSTEM_SERVICES" "text" "apt-daily.timer apt-daily-upgrade.timer") -}}
{{- end -}}
{{- if get $config "extraProjectedItems" -}}
{{- include "pxeboot.kubefarm.left" (dict "made" $made "text" "ltsp.config.extraProjectedItems: mount what they hold by extraVolumes, and name it in farm.node.files: {NAME: {from: ...}}") -}}
{{- end -}}
{{- range $key, $value := (get $config "options") | default dict -}}
{{- include "pxeboot.kubefarm.tag" (dict "made" $made "name" "all") -}}
{{- include "pxeboot.kubefarm.option" (dict "root" $.root "made" $made "name" "all" "tag" $made.tags.all "key" $key "text" (include "pxeboot.text" $value)) -}}
{{- end -}}
{{- end -}}

{{/* One lts.conf key of every machine. */}}
{{- define "pxeboot.kubefarm.lts" -}}
{{- include "pxeboot.kubefarm.tag" (dict "made" .made "name" "all") -}}
{{- $lts := get .made.tags.all "lts" | default dict -}}
{{- $_ := set .made.tags.all "lts" (set $lts .key .text) -}}
{{- end -}}
