{{/* The parts of a pod that the daemon, the topics' Job and the test share. */}}

{{/* Name and password as variables: the one place where they are not in a file that others can read. */}}
{{- define "tidecast.secretEnv" -}}
{{- with .Values.kafka.sasl }}
{{- if .enabled }}
{{- $dots := eq $.Values.config.kafka.client "confluent" }}
- name: STREAMER_KAFKA__OPTIONS__{{ ternary "SASL__USERNAME" "SASL_PLAIN_USERNAME" $dots }}
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .usernameKey }}}}
- name: STREAMER_KAFKA__OPTIONS__{{ ternary "SASL__PASSWORD" "SASL_PLAIN_PASSWORD" $dots }}
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .passwordKey }}}}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What Kafka needs besides the settings. */}}
{{- define "tidecast.tlsMounts" -}}
{{- with .Values.kafka.tls }}
{{- if .caSecret.name }}
- {name: kafka-ca, mountPath: /etc/tidecast-tls/ca, readOnly: true}
{{- end }}
{{- if .clientSecret.name }}
- {name: kafka-client, mountPath: /etc/tidecast-tls/client, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{- define "tidecast.tlsVolumes" -}}
{{- with .Values.kafka.tls }}
{{- if .caSecret.name }}
- name: kafka-ca
  secret: {secretName: {{ .caSecret.name }}, defaultMode: 0440}
{{- end }}
{{- if .clientSecret.name }}
- name: kafka-client
  secret: {secretName: {{ .clientSecret.name }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end -}}

{{/* The daemon's files: settings, model, certificates, and a place for the little that is written. */}}
{{- define "tidecast.mounts" -}}
- {name: settings, mountPath: /etc/tidecast, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if ne .Values.model.source "image" }}
- {name: model, mountPath: /models, readOnly: true}
{{- end }}
{{- include "tidecast.tlsMounts" . }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tidecast.volumes" -}}
- name: settings
  configMap: {name: {{ include "tidecast.fullname" . }}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .Values.model }}
{{- if eq .source "persistentVolumeClaim" }}
- name: model
  persistentVolumeClaim: {claimName: {{ .persistentVolumeClaim.claimName }}, readOnly: true}
{{- else if eq .source "configMap" }}
- name: model
  configMap: {name: {{ .configMap.name }}}
{{- else if include "tidecast.fetches" $ }}
- name: model
  emptyDir: {}
- name: fetch-model
  configMap: {name: {{ include "tidecast.fullname" $ }}-fetch-model}
{{- end }}
{{- end }}
{{- include "tidecast.tlsVolumes" . }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Fetches the model with the daemon's own image: no second image, and the checksum decides. */}}
{{- define "tidecast.initContainers" -}}
{{- if include "tidecast.fetches" . }}
{{- $model := .Values.model }}
- name: fetch-model
  image: {{ include "tidecast.image" (list .Values.image .Chart.AppVersion) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [python, /etc/fetch-model/fetch_model.py, /models/model.onnx]
  env:
    - {name: MODEL_SHA256, value: {{ $model.sha256 | quote }}}
    {{- if eq $model.source "http" }}
    - {name: MODEL_URL, value: {{ $model.http.url | quote }}}
    {{- with $model.http.authorizationSecret }}
    {{- if .name }}
    - name: MODEL_AUTHORIZATION
      valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key }}}}
    {{- end }}
    {{- end }}
    {{- else }}
    - {name: MODEL_URL, value: {{ printf "%s/%s/%s" (trimSuffix "/" $model.s3.endpoint) $model.s3.bucket (urlquery $model.s3.key | replace "+" "%20" | replace "%2F" "/") | quote }}}
    {{- with $model.s3.credentialsSecret }}
    - {name: S3_REGION, value: {{ $model.s3.region | quote }}}
    - name: S3_ACCESS_KEY_ID
      valueFrom: {secretKeyRef: {name: {{ . }}, key: accessKeyId}}
    - name: S3_SECRET_ACCESS_KEY
      valueFrom: {secretKeyRef: {name: {{ . }}, key: secretAccessKey}}
    {{- end }}
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.securityContext }}
  securityContext: {{- toYaml . | nindent 4 }}
  {{- end }}
  resources: {{- include "tidecast.resourcesWithoutDevices" . | nindent 4 }}
  volumeMounts:
    - {name: model, mountPath: /models}
    - {name: fetch-model, mountPath: /etc/fetch-model, readOnly: true}
    - {name: tmp, mountPath: /tmp}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- with .Values.extraInitContainers }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* CPU and memory without devices (`nvidia.com/gpu`): for pods that must come up while the daemon's hold all of them. */}}
{{- define "tidecast.resourcesWithoutDevices" -}}
{{- $kept := dict -}}
{{- range $kind, $amounts := omit (.Values.resources | default dict) "claims" -}}
{{- $plain := dict -}}
{{- range $name, $amount := $amounts -}}
{{- if not (contains "/" $name) -}}{{- $_ := set $plain $name $amount -}}{{- end -}}
{{- end -}}
{{- $_ := set $kept $kind $plain -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}

{{/* What every pod's spec has in common, whoever it serves. */}}
{{- define "tidecast.podBasics" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
