{{/* Plain values as people wrote them, and times and addresses of dnsmasq in our words. */}}

{{/* A plain value as text. Helm has every number as a float, and would write 1e+06 for a million. */}}
{{- define "pxeboot.text" -}}
{{- if kindIs "float64" . -}}
{{- if eq . (floor .) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end -}}
{{- else if not (kindIs "invalid" .) -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* A lease time of dnsmasq, such as 12h, in seconds or `infinite`; nothing for what is none. */}}
{{- define "pxeboot.lease" -}}
{{- $word := lower (trim .) -}}
{{- if has $word (list "infinite" "infinity") -}}
infinite
{{- else if regexMatch "^[0-9]{1,10}[smhdw]?$" $word -}}
{{- $unit := regexFind "[smhdw]$" $word -}}
{{- $seconds := mul (int64 (regexFind "^[0-9]+" $word)) (get (dict "" 1 "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800) $unit) -}}
{{- if gt $seconds 4294967294 }}infinite{{ else }}{{ max $seconds 60 }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* An IPv4 address as a number; nothing for what is none. */}}
{{- define "pxeboot.number" -}}
{{- if regexMatch "^(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}$" . -}}
{{- $number := 0 -}}
{{- range splitList "." . }}{{ $number = add (mul $number 256) (int64 .) }}{{ end -}}
{{- $number -}}
{{- end -}}
{{- end -}}

{{/* The network of (dict "ip" IP "mask" MASK) as JSON: its name, first and last number. Nothing if the mask is none. */}}
{{- define "pxeboot.network" -}}
{{- $lengths := dict "4294967295" 32 -}}
{{- $size := 1 -}}
{{- range $length := untilStep 31 -1 -1 -}}
{{- $size = mul $size 2 -}}
{{- $_ := set $lengths (sub 4294967296 $size | toString) $length -}}
{{- end -}}
{{- $mask := include "pxeboot.number" .mask -}}
{{- if hasKey $lengths $mask -}}
{{- $size := sub 4294967296 (int64 $mask) -}}
{{- $ip := int64 (include "pxeboot.number" .ip) -}}
{{- $first := sub $ip (mod $ip $size) -}}
{{- $octets := list -}}
{{- range list 16777216 65536 256 1 }}{{ $octets = append $octets (mod (div $first .) 256) }}{{ end -}}
{{- dict "name" (printf "%s/%d" (join "." $octets) (get $lengths $mask)) "first" $first "last" (add $first $size -1) | toJson -}}
{{- end -}}
{{- end -}}

{{/* The host name that is nearest to a name. */}}
{{- define "pxeboot.host" -}}
{{- regexReplaceAll "[^a-z0-9.-]+" (lower .) "-" | trimAll "-." | trunc 63 | trimAll "-." -}}
{{- end -}}
