{{- define "redis.labels" -}}
app.kubernetes.io/name: redis
app.kubernetes.io/part-of: flyertime
{{- end }}
