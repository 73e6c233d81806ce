{{- define "redis.labels" -}}
app.kubernetes.io/name: redis
app.kubernetes.io/part-of: flyertime
{{- end }}

{{- define "redis.configuration" -}}
dir /data
appendonly yes
appendfsync {{ .Values.appendFsync }}
save ""
maxmemory {{ .Values.maxMemory }}
# State and pending events must never be thrown away to make room.
maxmemory-policy noeviction
{{- end }}
