{{/* Names and labels that every object shares. */}}

{{- define "tidecast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Cut at 40 characters: pods, revisions and hooks add to it, and 63 is the limit of a label. */}}
{{- define "tidecast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "tidecast.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tidecast.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the daemon's pods; a StatefulSet's selector can never change. */}}
{{- define "tidecast.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tidecast.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: streamer
{{- end -}}

{{- define "tidecast.commonLabels" -}}
app.kubernetes.io/name: {{ include "tidecast.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of the objects around the daemon. */}}
{{- define "tidecast.labels" -}}
{{ include "tidecast.commonLabels" . }}
app.kubernetes.io/component: streamer
{{- end -}}

{{- define "tidecast.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tidecast.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* A value as text, a whole number without an exponent: YAML's numbers come as floats, 2000000 as 2e+06. */}}
{{- define "tidecast.text" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* An image's full name: list of its values and the default tag. */}}
{{- define "tidecast.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (include "tidecast.text" (default (index . 1) $image.tag)) -}}
{{- end -}}
{{- end -}}
