const said = document.getElementById("said");
const events = new EventSource("/events");
events.addEventListener("overview", (event) => {
  const { node, now } = JSON.parse(event.data);
  said.textContent = `${node.name}: ${now.queries_per_s.toFixed(0)} queries a second`;
});
events.onerror = () => { said.textContent = "The connection to the node is lost; trying again."; };
