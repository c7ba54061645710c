//! Reads tokens into the tree, by recursive descent: one function a rule of the grammar.

use chrono::{DateTime, Utc};

use super::lexer::{Literal, Placed, Token};
use super::{COMPARISONS_MAX, DEPTH_MAX, Expression, Fault, FilterError, Operator, TextField, TimeField};

struct Parser<'a> {
    rest: &'a [Placed],
    comparisons: usize,
}

enum Field {
    Text(TextField),
    Time(TimeField),
}

/// Reads a whole filter; `None` for an empty one.
pub(super) fn parse(tokens: &[Placed]) -> Result<Option<Expression>, FilterError> {
    let mut parser = Parser {
        rest: tokens,
        comparisons: 0,
    };
    if parser.peek() == &Token::End {
        return Ok(None);
    }
    let expression = parser.expression(0)?;
    match parser.peek() {
        Token::End => Ok(Some(expression)),
        _ => Err(parser.fault(Fault::Expected("AND or OR, in capitals"))),
    }
}

// === impl Parser ===

impl<'a> Parser<'a> {
    fn expression(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut parts = vec![self.sequence(depth)?];
        while self.peek() == &Token::And {
            self.advance();
            parts.push(self.sequence(depth)?);
        }
        Ok(alone_or(parts, Expression::And))
    }

    fn sequence(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut parts = vec![self.term(depth)?];
        while self.peek() == &Token::Or {
            self.advance();
            parts.push(self.term(depth)?);
        }
        Ok(alone_or(parts, Expression::Or))
    }

    fn term(&mut self, depth: usize) -> Result<Expression, FilterError> {
        if depth > DEPTH_MAX {
            return Err(self.fault(Fault::TooDeep));
        }
        match self.peek() {
            Token::Not => {
                self.advance();
                Ok(Expression::Not(Box::new(self.term(depth + 1)?)))
            }
            Token::Open => {
                self.advance();
                let inner = self.expression(depth + 1)?;
                if self.peek() != &Token::Close {
                    return Err(self.fault(Fault::Expected("a closing parenthesis")));
                }
                self.advance();
                Ok(inner)
            }
            _ => self.comparison(),
        }
    }

    fn comparison(&mut self) -> Result<Expression, FilterError> {
        if self.comparisons == COMPARISONS_MAX {
            return Err(self.fault(Fault::TooManyComparisons));
        }
        self.comparisons += 1;
        let field = self.field()?;
        let Token::Operator(operator) = *self.peek() else {
            return Err(self.fault(Fault::Expected("an operator")));
        };
        self.advance();
        let Token::Literal(literal) = self.peek() else {
            return Err(self.fault(Fault::Expected("a value")));
        };
        let compared = match field {
            Field::Text(field) => text(field, operator, literal),
            Field::Time(field) => time(field, operator, literal),
        };
        let compared = compared.map_err(|fault| self.fault(fault))?;
        self.advance();
        Ok(compared)
    }

    fn field(&mut self) -> Result<Field, FilterError> {
        let Token::Literal(literal) = self.peek() else {
            return Err(self.fault(Fault::Expected("a comparison")));
        };
        let field = match literal.text.as_str() {
            _ if literal.is_quoted || literal.is_prefix => None,
            "email" => Some(Field::Text(TextField::Email)),
            "display_name" => Some(Field::Text(TextField::DisplayName)),
            "create_time" => Some(Field::Time(TimeField::CreateTime)),
            "update_time" => Some(Field::Time(TimeField::UpdateTime)),
            _ => None,
        };
        let field = field.ok_or_else(|| self.fault(Fault::UnknownField))?;
        self.advance();
        Ok(field)
    }

    fn peek(&self) -> &'a Token {
        self.rest.first().map_or(&Token::End, |placed| &placed.token)
    }

    fn advance(&mut self) {
        // The end is never passed: a fault there has to have a position.
        if let [_, rest @ ..] = self.rest
            && !rest.is_empty()
        {
            self.rest = rest;
        }
    }

    fn fault(&self, fault: Fault) -> FilterError {
        FilterError {
            at: self.rest.first().map_or(1, |placed| placed.at),
            fault,
        }
    }
}

/// A single part stands for itself.
fn alone_or(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => join(parts),
    }
}

fn text(field: TextField, operator: Operator, literal: &Literal) -> Result<Expression, Fault> {
    if !literal.is_prefix {
        let value = literal.text.clone();
        return Ok(Expression::Text { field, operator, value });
    }
    let negated = match operator {
        Operator::Equal => false,
        Operator::NotEqual => true,
        _ => return Err(Fault::StarOperator),
    };
    let prefix = literal.text.clone();
    Ok(Expression::Prefix { field, negated, prefix })
}

fn time(field: TimeField, operator: Operator, literal: &Literal) -> Result<Expression, Fault> {
    if literal.is_prefix {
        return Err(Fault::Star);
    }
    let value = DateTime::parse_from_rfc3339(&literal.text).map_err(|_| Fault::Time)?;
    Ok(Expression::Time {
        field,
        operator,
        value: value.with_timezone(&Utc),
    })
}
