// Shows the OpenAPI document in Swagger UI; no CDN.
const place = document.getElementById("docs");

// Without a lock where a token is optional.
const OptionalLock = () => ({
  wrapComponents: {
    OperationSummary: (Original, { React }) => (props) => {
      const security = props.operationProps.get("security");
      const optional = security?.some((requirement) => requirement.isEmpty());
      const operationProps = optional ? props.operationProps.delete("security") : props.operationProps;
      return React.createElement(Original, { ...props, operationProps });
    },
  },
});

SwaggerUIBundle({
  domNode: place,
  url: place.dataset.description,
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  plugins: [OptionalLock],
  validatorUrl: null, // no requests to Swagger's online validator
});
