// Shows the API's description on its page; nothing is loaded from elsewhere.
const place = document.getElementById("docs");

SwaggerUIBundle({
  domNode: place,
  url: place.dataset.description,
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  validatorUrl: null, // Swagger's own would be asked otherwise
});
