# Serves until it is told to stop; then takes no further connection and ends when those that it has are answered.
mkdir -p /www/cgi-bin
# Configs are not to be executed where they are.
cp /item /www/cgi-bin/item && chmod 0755 /www/cgi-bin/item
echo "shop, release $RELEASE" > /www/index.html
httpd -f -p 80 -h /www &
server=$!
trap 'kill $server; sleep 1; exit 0' TERM
wait $server
