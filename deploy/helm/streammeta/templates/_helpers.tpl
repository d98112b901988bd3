{{- define "streammeta.name" -}}
{{- .Values.nameOverride | default (printf "%s-%s" .Release.Name .Chart.Name | replace "streammeta-streammeta" "streammeta") | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "streammeta.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "streammeta.labels" -}}
{{ include "streammeta.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- /* Takes a dict: root, the chart's context; image, as .Values.image. */ -}}
{{- define "streammeta.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "streammeta.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "streammeta.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "streammeta.trainerSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-trainer
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "streammeta.trainerLabels" -}}
{{ include "streammeta.trainerSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- /* Of members and the trainer: every pod of the release. */ -}}
{{- define "streammeta.everyPod" -}}
matchLabels:
  app.kubernetes.io/instance: {{ .Release.Name }}
matchExpressions:
  - {key: app.kubernetes.io/name, operator: In, values: [{{ .Chart.Name }}, {{ .Chart.Name }}-trainer]}
{{- end -}}

{{- define "streammeta.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "streammeta.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "streammeta.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: http{{ if .Values.http.tlsSecret.name }}, scheme: HTTPS{{ end }}}
  {{- toYaml .Values.probes.startup | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: http{{ if .Values.http.tlsSecret.name }}, scheme: HTTPS{{ end }}}
  {{- toYaml .Values.probes.liveness | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: http{{ if .Values.http.tlsSecret.name }}, scheme: HTTPS{{ end }}}
  {{- toYaml .Values.probes.readiness | nindent 2 }}
{{- end -}}

{{- /* Variables, mounts and volumes. Takes a dict: root, the chart's context; kafka, as .Values.kafka; env, more variables. */ -}}
{{- define "streammeta.env" -}}
- {name: STREAMMETA_KAFKA__BOOTSTRAP_SERVERS, value: {{ .kafka.bootstrapServers | quote }}}
- {name: STREAMMETA_KAFKA__SECURITY_PROTOCOL, value: {{ .kafka.securityProtocol | quote }}}
- {name: STREAMMETA_KAFKA__SESSION_TIMEOUT_SECONDS, value: {{ .kafka.sessionTimeoutSeconds | quote }}}
{{- with .kafka.saslMechanism }}
- {name: STREAMMETA_KAFKA__SASL_MECHANISM, value: {{ . | quote }}}
{{- end }}
{{- with .kafka.username }}
- {name: STREAMMETA_KAFKA__SASL_USERNAME, value: {{ . | quote }}}
{{- end }}
{{- if .kafka.passwordSecret.name }}
- {name: STREAMMETA_KAFKA__SASL_PASSWORD_FILE, value: /etc/streammeta/password/{{ .kafka.passwordSecret.key }}}
{{- end }}
{{- if .kafka.tokenSecret.name }}
- {name: STREAMMETA_KAFKA__SASL_TOKEN_FILE, value: /etc/streammeta/kafka-token/{{ .kafka.tokenSecret.key }}}
{{- end }}
{{- if .kafka.caSecret.name }}
- {name: STREAMMETA_KAFKA__SSL_CAFILE, value: /etc/streammeta/ca/{{ .kafka.caSecret.key }}}
{{- end }}
{{- if .kafka.clientCertSecret.name }}
- {name: STREAMMETA_KAFKA__SSL_CERTFILE, value: /etc/streammeta/client/{{ .kafka.clientCertSecret.certKey }}}
- {name: STREAMMETA_KAFKA__SSL_KEYFILE, value: /etc/streammeta/client/{{ .kafka.clientCertSecret.keyKey }}}
{{- end }}
- {name: STREAMMETA_HTTP__PORT, value: "9464"}
{{- if .root.Values.http.tlsSecret.name }}
- {name: STREAMMETA_HTTP__TLS_CERTFILE, value: /etc/streammeta/http/{{ .root.Values.http.tlsSecret.certKey }}}
- {name: STREAMMETA_HTTP__TLS_KEYFILE, value: /etc/streammeta/http/{{ .root.Values.http.tlsSecret.keyKey }}}
{{- end }}
{{- if .root.Values.http.tokenSecret.name }}
- {name: STREAMMETA_HTTP__TOKEN_FILE, value: /etc/streammeta/token/{{ .root.Values.http.tokenSecret.key }}}
{{- end }}
- {name: STREAMMETA_LOG__FORMAT, value: json}
- {name: STREAMMETA_MEMORY__SPILL_DIRECTORY, value: /scratch/spill}
- {name: TMPDIR, value: /scratch}
{{- with concat .root.Values.env (.env | default list) }}{{ toYaml . | nindent 0 }}{{ end }}
{{- if .root.Values.trainer.enabled }}
- {name: STREAMMETA_META__TRAINER, value: separate}  # last, so that it wins: a member that trains ends the trainer
{{- end }}
{{- end -}}

{{- define "streammeta.mounts" -}}
- {name: config, mountPath: /etc/streammeta/streammeta.toml, subPath: streammeta.toml, readOnly: true}
- {name: scratch, mountPath: /scratch}
{{- if .root.Values.http.tlsSecret.name }}
- {name: http-tls, mountPath: /etc/streammeta/http, readOnly: true}
{{- end }}
{{- if .root.Values.http.tokenSecret.name }}
- {name: http-token, mountPath: /etc/streammeta/token, readOnly: true}
{{- end }}
{{- if .kafka.passwordSecret.name }}
- {name: password, mountPath: /etc/streammeta/password, readOnly: true}
{{- end }}
{{- if .kafka.tokenSecret.name }}
- {name: kafka-token, mountPath: /etc/streammeta/kafka-token, readOnly: true}
{{- end }}
{{- if .kafka.caSecret.name }}
- {name: ca, mountPath: /etc/streammeta/ca, readOnly: true}
{{- end }}
{{- if .kafka.clientCertSecret.name }}
- {name: client, mountPath: /etc/streammeta/client, readOnly: true}
{{- end }}
{{- end -}}

{{- define "streammeta.volumes" -}}
- name: config
  configMap: {name: {{ include "streammeta.name" .root }}}
- name: scratch
  emptyDir: {sizeLimit: {{ .root.Values.scratch.sizeLimit }}}
{{- with .root.Values.http.tlsSecret }}{{ if .name }}
- name: http-tls
  secret: {secretName: {{ .name }}, defaultMode: 0440}
{{- end }}{{ end }}
{{- with .root.Values.http.tokenSecret }}{{ if .name }}
- name: http-token
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: {{ .key }}}]}
{{- end }}{{ end }}
{{- with .kafka.passwordSecret }}{{ if .name }}
- name: password
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: {{ .key }}}]}
{{- end }}{{ end }}
{{- with .kafka.tokenSecret }}{{ if .name }}
- name: kafka-token
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: {{ .key }}}]}
{{- end }}{{ end }}
{{- with .kafka.caSecret }}{{ if .name }}
- name: ca
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: {{ .key }}}]}
{{- end }}{{ end }}
{{- with .kafka.clientCertSecret }}{{ if .name }}
- name: client
  secret: {secretName: {{ .name }}, defaultMode: 0440}
{{- end }}{{ end }}
{{- end -}}
