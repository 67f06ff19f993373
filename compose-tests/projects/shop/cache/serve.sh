# One request a connection: `set KEY VALUE` or `get KEY`.
read verb key value
case $verb in
  set) echo "$value" > "/store/$key"; echo stored ;;
  get) cat "/store/$key" 2>/dev/null || echo none ;;
esac
