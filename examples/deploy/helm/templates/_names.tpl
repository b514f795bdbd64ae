{{- define "mixlab.name" -}}
{{- if contains "mixlab" .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-mixlab" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What tells this release's pods from all others. */}}
{{- define "mixlab.selector" -}}
app.kubernetes.io/name: mixlab
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mixlab.labels" -}}
{{ include "mixlab.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "mixlab.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Whether there may be more than one server at a time. */}}
{{- define "mixlab.several" -}}
{{- if ne (toString .Values.replicas) "1" -}}true{{- end -}}
{{- end -}}
