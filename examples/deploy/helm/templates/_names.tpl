{{/* The name of a Service, which has no dots and begins with a letter, as that of a release need not. */}}
{{- define "mixlab.name" -}}
{{- $name := .Release.Name | replace "." "-" -}}
{{- if not (contains "mixlab" $name) -}}
{{- $name = printf "%s-mixlab" $name -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]" $name) -}}
{{- $name = printf "r-%s" $name -}}
{{- end -}}
{{- $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What tells this release's pods from all others. */}}
{{- define "mixlab.selector" -}}
app.kubernetes.io/name: mixlab
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "mixlab.labels" -}}
{{ include "mixlab.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* A text as it is, and a number without an exponent: to Helm, numbers of a file of values are floating. */}}
{{- define "mixlab.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ int64 . }}{{ end -}}
{{- end -}}

{{- define "mixlab.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ include "mixlab.text" .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Whether there may be more than one server at a time. */}}
{{- define "mixlab.several" -}}
{{- if ne (toString .Values.replicas) "1" -}}true{{- end -}}
{{- end -}}
