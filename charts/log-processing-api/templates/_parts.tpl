{{- define "flyertime.labels" -}}
app.kubernetes.io/name: flyertime
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "flyertime.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "flyertime.jobRedisUrl" -}}
{{- if .Values.redis.jobUrl }}{{ .Values.redis.jobUrl }}{{ else }}{{ .Values.redis.url | replace "://redis:" (printf "://redis.%s.svc:" .Release.Namespace) }}{{ end }}
{{- end }}

{{- define "flyertime.deadLetterSink" -}}
{{- if .Values.eventing.deadLetterUri -}}
uri: {{ .Values.eventing.deadLetterUri }}
{{- else -}}
ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: dead-letter}
{{- end }}
{{- end }}

{{- /* The environment that every function has. */}}
{{- define "flyertime.environment" -}}
- {name: FLYERTIME_REDIS_URL, value: {{ .Values.redis.url | quote }}}
{{- if .Values.redis.existingSecret }}
- name: FLYERTIME_REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.secretKey }}}}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: FLYERTIME_{{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{- /* Probes and rights that every function's container has. */}}
{{- define "flyertime.container" -}}
# Ready where the store answers; without periodSeconds Knative probes as fast as it can, so a start from zero is short.
readinessProbe: {httpGet: {path: /readyz}}
livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 20, timeoutSeconds: 5}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}
