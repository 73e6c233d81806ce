{{- define "flyertime.labels" -}}
app.kubernetes.io/name: flyertime
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- /* A tag, or a digest in its place. */}}
{{- define "flyertime.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ .Values.image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}

{{- define "flyertime.jobRedisUrl" -}}
{{- if .Values.redis.jobUrl }}{{ .Values.redis.jobUrl }}{{ else }}{{ .Values.redis.url | replace "://redis:" (printf "://redis.%s.svc:" .Release.Namespace) }}{{ end }}
{{- end }}

{{- define "flyertime.redisSecret" -}}
{{- if .Values.redis.password }}flyertime-redis{{ else }}{{ .Values.redis.existingSecret }}{{ end }}
{{- end }}

{{- define "flyertime.redisSecretKey" -}}
{{- if .Values.redis.password }}password{{ else }}{{ .Values.redis.secretKey }}{{ end }}
{{- end }}

{{- define "flyertime.deadLetterSink" -}}
{{- if .Values.eventing.deadLetterUri -}}
uri: {{ .Values.eventing.deadLetterUri }}
{{- else -}}
ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: dead-letter}
{{- end }}
{{- end }}

{{- /* A value as text. Numbers in values files come as floating point, which would show a million as 1e+06. */}}
{{- define "flyertime.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- /* The environment that every function has. */}}
{{- define "flyertime.environment" -}}
- {name: FLYERTIME_REDIS_URL, value: {{ .Values.redis.url | quote }}}
{{- if include "flyertime.redisSecret" . }}
- name: FLYERTIME_REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "flyertime.redisSecret" . }}, key: {{ include "flyertime.redisSecretKey" . }}}}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: FLYERTIME_{{ $name }}, value: {{ include "flyertime.text" $value | quote }}}
{{- end }}
{{- end }}

{{- /* Rights that every container of ours has: none. */}}
{{- define "flyertime.confined" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* Probes and rights that every function's container has. */}}
{{- define "flyertime.container" -}}
# Ready where the store answers; without periodSeconds Knative probes as fast as it can, so a start from zero is short.
readinessProbe: {httpGet: {path: /readyz}}
livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 20, timeoutSeconds: 5}
{{ include "flyertime.confined" . }}
{{- end }}

{{- define "flyertime.pullSecrets" -}}
{{- $names := list }}{{ range .Values.image.pullSecrets }}{{ $names = append $names (dict "name" .) }}{{ end }}{{ toJson $names }}
{{- end }}
