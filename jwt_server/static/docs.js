// Shows the OpenAPI document in Swagger UI; no CDN.
const place = document.getElementById("docs");

SwaggerUIBundle({
  domNode: place,
  url: place.dataset.description,
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  validatorUrl: null, // no requests to Swagger's online validator
});
