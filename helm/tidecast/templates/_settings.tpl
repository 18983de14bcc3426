{{/* What is refused, with the remedy: what a schema cannot say, or says less clearly. */}}
{{- define "tidecast.validate" -}}
{{- $kafka := .Values.config.kafka -}}
{{- if not $kafka.bootstrap_servers -}}
{{- fail "config.kafka.bootstrap_servers: not set; name your brokers, --set config.kafka.bootstrap_servers=HOST:9092" -}}
{{- end -}}
{{- range splitList "," $kafka.bootstrap_servers -}}
{{- if not (regexMatch "^\\s*\\S+:[0-9]{1,5}\\s*$" .) -}}
{{- fail (printf "config.kafka.bootstrap_servers: found %q, expected host:port, several separated by commas" (trim .)) -}}
{{- end -}}
{{- end -}}
{{- if not .Values.config.input.topics -}}
{{- fail "config.input.topics: not set; name the topics to read, --set 'config.input.topics={events}'" -}}
{{- end -}}
{{- if $kafka.group_instance_id -}}
{{- fail "config.kafka.group_instance_id: found one name for all pods, which would shut each other out; remove it, staticMembership gives each pod its own" -}}
{{- end -}}
{{- if (.Values.config.model).path -}}
{{- fail "config.model.path: the chart sets it; use model.source and what belongs to it" -}}
{{- end -}}
{{- $protected := or .Values.kafka.sasl.enabled .Values.kafka.tls.enabled -}}
{{- range $name, $value := ($kafka.options | default dict) -}}
{{- if and $protected (regexMatch "^(security[._]protocol|sasl[._]mechanisms?)$" $name) -}}
{{- fail (printf "config.kafka.options.%s: found beside kafka.sasl or kafka.tls, which say it; remove one of them" $name) -}}
{{- end -}}
{{- if regexMatch "(?i)password|secret|username|token|jaas|oauthbearer[._]config|key[._]pem" $name -}}
{{- fail (printf "config.kafka.options.%s: a secret would be readable in a ConfigMap; use kafka.sasl.existingSecret, kafka.tls.clientSecret or extraEnvFrom" $name) -}}
{{- end -}}
{{- end -}}
{{- if not .Values.config.http.port -}}
{{- fail "config.http.port: found 0, and the probes need one; set 1 to 65535" -}}
{{- end -}}
{{- if regexMatch "^(127\\..*|localhost|::1)$" (.Values.config.http.host | default "") -}}
{{- fail (printf "config.http.host: found %s, where no probe reaches it; remove it, or set 0.0.0.0 or ::" .Values.config.http.host) -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $name := .name | default "" -}}
{{- $one := regexMatch "(?i)^STREAMER_KAFKA__OPTIONS__.*(PASSWORD|SECRET|TOKEN|JAAS|KEY_+PEM)" $name -}}
{{- $all := and (regexMatch "(?i)^STREAMER_KAFKA(__OPTIONS)?$" $name) (regexMatch "(?i)password|secret|token|jaas|key[._]pem" (toString .value)) -}}
{{- if and .value (or $one $all) -}}
{{- fail (printf "extraEnv: %s is a secret, and would be readable in the StatefulSet; use valueFrom with a secretKeyRef, or kafka.sasl.existingSecret" .name) -}}
{{- end -}}
{{- end -}}
{{- range $values, $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels -}}
{{- range $name, $_ := ($labels | default dict) -}}
{{- if has $name (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" "tidecast/scrape") -}}
{{- fail (printf "%s: found %s, by which the chart's objects find each other; take another name" $values $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.kafka.sasl.enabled (not .Values.kafka.sasl.existingSecret) -}}
{{- fail "kafka.sasl.existingSecret: not set; name the Secret that holds the user's name and password" -}}
{{- end -}}
{{- if and .Values.kafka.tls.clientSecret.name (not .Values.kafka.tls.enabled) -}}
{{- fail "kafka.tls.clientSecret: found without kafka.tls.enabled, so nothing would be encrypted; enable it" -}}
{{- end -}}
{{- if and .Values.kafka.tls.caSecret.name (not .Values.kafka.tls.enabled) -}}
{{- fail "kafka.tls.caSecret: found without kafka.tls.enabled, so nothing would be encrypted; enable it" -}}
{{- end -}}
{{- include "tidecast.validateModel" . -}}
{{- if (.Values.networkPolicy).enabled -}}
{{- include "tidecast.validateNetwork" . -}}
{{- end -}}
{{- $auto := .Values.autoscaling -}}
{{- if and $auto.enabled (lt (int $auto.maxReplicas) (int $auto.minReplicas)) -}}
{{- fail (printf "autoscaling.maxReplicas: found %d, below minReplicas %d; set the partitions of the inputs together" (int $auto.maxReplicas) (int $auto.minReplicas)) -}}
{{- end -}}
{{- if .Values.training.enabled -}}
{{- if not .Values.training.volumeClaim -}}
{{- fail "training.volumeClaim: not set; name the claim that holds the history and takes the model" -}}
{{- end -}}
{{- if not .Values.training.config -}}
{{- fail "training.config: empty; say what to train, docs/training.md lists the settings" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tidecast.validateModel" -}}
{{- $model := .Values.model -}}
{{- $needs := dict
      "image" (dict "model.path" $model.path)
      "persistentVolumeClaim" (dict "model.path" $model.path "model.persistentVolumeClaim.claimName" $model.persistentVolumeClaim.claimName)
      "configMap" (dict "model.configMap.name" $model.configMap.name)
      "http" (dict "model.http.url" $model.http.url "model.sha256" $model.sha256)
      "s3" (dict "model.s3.endpoint" $model.s3.endpoint "model.s3.bucket" $model.s3.bucket "model.s3.key" $model.s3.key "model.sha256" $model.sha256) -}}
{{- if not $model.source -}}
{{- fail "model.source: not set; say where the model comes from: image, persistentVolumeClaim, configMap, http or s3 (to try the demo's: --set model.source=image,model.path=/opt/tidecast/demo/model.onnx)" -}}
{{- end -}}
{{- range $name, $value := get $needs $model.source -}}
{{- if not $value -}}
{{- fail (printf "%s: not set, and model.source %s needs it" $name $model.source) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $model.source "http") (or (contains "@" (urlParse $model.http.url).host) (urlParse $model.http.url).userinfo) -}}
{{- fail "model.http.url: found a user's name or password in it, readable in the StatefulSet; use model.http.authorizationSecret" -}}
{{- end -}}
{{- if and (eq $model.source "image") (not (hasPrefix "/" $model.path)) -}}
{{- fail (printf "model.path: found %q, expected the file's absolute path in the image" $model.path) -}}
{{- end -}}
{{- end -}}

{{/* A port that is needed and not open would only show as pods that never start. */}}
{{- define "tidecast.validateNetwork" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $open := list -}}
{{- range $policy.kafkaPorts -}}{{- $open = append $open (int64 .) -}}{{- end -}}
{{- range splitList "," .Values.config.kafka.bootstrap_servers -}}
{{- $port := regexFind "[0-9]+$" (trim .) -}}
{{- if not (has (int64 $port) $open) -}}
{{- fail (printf "networkPolicy.kafkaPorts: %s of config.kafka.bootstrap_servers is not among them; add %s, and the ports that brokers advertise" (trim .) $port) -}}
{{- end -}}
{{- end -}}
{{- if include "tidecast.fetches" . -}}
{{- $open = list -}}
{{- range $policy.modelPorts -}}{{- $open = append $open (int64 .) -}}{{- end -}}
{{- $url := urlParse (ternary .Values.model.http.url .Values.model.s3.endpoint (eq .Values.model.source "http")) -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- if not (has (int64 $port) $open) -}}
{{- fail (printf "networkPolicy.modelPorts: %s is not among them, and %s is fetched through it; add it" $port $url.host) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether the model is fetched by an init container: "true" or nothing. */}}
{{- define "tidecast.fetches" -}}
{{- if has .Values.model.source (list "http" "s3") -}}true{{- end -}}
{{- end -}}

{{- define "tidecast.modelPath" -}}
{{- $model := .Values.model -}}
{{- if eq $model.source "image" -}}{{ $model.path }}
{{- else if eq $model.source "persistentVolumeClaim" -}}/models/{{ trimPrefix "/" $model.path }}
{{- else if eq $model.source "configMap" -}}/models/{{ $model.configMap.key }}
{{- else -}}/models/model.onnx
{{- end -}}
{{- end -}}

{{/* The daemon's YAML file: `config`, and what the chart knows. No secret is in it. */}}
{{- define "tidecast.settings" -}}
{{- include "tidecast.validate" . -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "model" (merge (dict "path" (include "tidecast.modelPath" .)) ($config.model | default dict)) -}}
{{- $_ := set $config "http" (merge $config.http (dict "host" "0.0.0.0")) -}}
{{- if not $config.kafka.group_id -}}
{{- $_ := set $config.kafka "group_id" (include "tidecast.fullname" .) -}}
{{- end -}}
{{- $options := merge ($config.kafka.options | default dict) (include "tidecast.kafkaOptions" . | fromYaml) -}}
{{- if $options -}}
{{- $_ := set $config.kafka "options" $options -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* How each client library names what `kafka.sasl` and `kafka.tls` say. */}}
{{- define "tidecast.kafkaOptions" -}}
{{- $names := dict "protocol" "security_protocol" "mechanism" "sasl_mechanism" "ca" "ssl_cafile" "certificate" "ssl_certfile" "key" "ssl_keyfile" -}}
{{- if eq .Values.config.kafka.client "confluent" -}}
{{- $names = dict "protocol" "security.protocol" "mechanism" "sasl.mechanism" "ca" "ssl.ca.location" "certificate" "ssl.certificate.location" "key" "ssl.key.location" -}}
{{- end -}}
{{- $sasl := .Values.kafka.sasl -}}
{{- $tls := .Values.kafka.tls -}}
{{- if or $sasl.enabled $tls.enabled }}
{{ $names.protocol }}: {{ ternary (ternary "SASL_SSL" "SASL_PLAINTEXT" $tls.enabled) "SSL" $sasl.enabled }}
{{- end }}
{{- if $sasl.enabled }}
{{ $names.mechanism }}: {{ $sasl.mechanism }}
{{- end }}
{{- if $tls.caSecret.name }}
{{ $names.ca }}: /etc/tidecast-tls/ca/{{ $tls.caSecret.key }}
{{- end }}
{{- with $tls.clientSecret }}
{{- if .name }}
{{ $names.certificate }}: /etc/tidecast-tls/client/{{ .certificateKey }}
{{ $names.key }}: /etc/tidecast-tls/client/{{ .privateKeyKey }}
{{- end }}
{{- end }}
{{- end -}}
